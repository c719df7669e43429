//! The proof that the admin listener knows the admin token: a command sends the token only after it.

use crate::harness::{DEADLINE, Wire, eventually, free_port, within};
use std::{
    fs,
    process::{Output, Stdio},
    sync::{Arc, Mutex},
};
use tempfile::TempDir;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
    process::{Child, Command},
};

const TOKEN: &str = "0123456789abcdef-secret";

#[tokio::test]
async fn another_program_on_the_admin_port_never_receives_the_token() {
    let proof = "a".repeat(64);
    for (answer, commands) in [
        (
            format!("HTTP/1.1 200 OK\r\nContent-Length: 65\r\n\r\n{proof}\n"),
            COMMANDS,
        ),
        (
            "HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\nok\n".to_owned(),
            &COMMANDS[..1],
        ),
        // A lockgate without /auth that requires a token, and one that requires none.
        (
            "HTTP/1.1 401 Unauthorized\r\nContent-Length: 0\r\n\r\n".to_owned(),
            &COMMANDS[..1],
        ),
        (
            "HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\n".to_owned(),
            &COMMANDS[..1],
        ),
        // The listener claims that it requires no token.
        (
            "HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nnone\n".to_owned(),
            &COMMANDS[..1],
        ),
        (
            "HTTP/1.1 429 Too Many Requests\r\nContent-Length: 0\r\n\r\n".to_owned(),
            &COMMANDS[..1],
        ),
        (
            "HTTP/1.1 200 OK\r\nContent-Length: 999999\r\n\r\n".to_owned() + &"a".repeat(100_000),
            &COMMANDS[..1],
        ),
        ("220 mail.example ESMTP\r\n".to_owned(), &COMMANDS[..1]),
    ] {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        let admin = listener.local_addr().expect("bound").to_string();
        let received = Arc::<Mutex<Vec<u8>>>::default();
        let serving = tokio::spawn(impostor(listener, answer.clone(), received.clone()));
        for arguments in commands {
            let output = command(&[*arguments, &["--admin", &admin]].concat(), TOKEN).await;
            assert!(!output.status.success(), "{arguments:?}, {answer:.40}");
        }
        let folder = tempfile::tempdir().expect("a folder");
        let file = folder.path().join("config.toml");
        fs::write(&file, config(&admin, TOKEN)).expect("the folder is writable");
        let file = file.to_str().expect("UTF-8");
        let output = command(&["run", "--takeover", "--config", file], TOKEN).await;
        assert!(!output.status.success(), "takeover, {answer:.40}");
        serving.abort();
        let received = String::from_utf8_lossy(&received.lock().expect("no panic")).into_owned();
        assert!(received.contains("HTTP/1.1"), "{answer:.40}: {received}");
        assert!(
            !received.contains(TOKEN) && !received.to_ascii_lowercase().contains("authorization"),
            "{answer:.40}: {received}"
        );
    }
}

#[tokio::test]
async fn commands_reach_a_listener_that_knows_the_token() {
    let server = Server::start(TOKEN).await;
    for (token, accepted) in [
        (TOKEN, true),
        ("0123456789abcdef-other", false),
        ("", false),
    ] {
        for arguments in [&["status"][..], &["sessions"], &["reload"]] {
            let arguments = [arguments, &["--admin", &server.admin]].concat();
            let output = command(&arguments, token).await;
            assert_eq!(output.status.success(), accepted, "{token}: {output:?}");
        }
    }
    assert!(
        command(&["health", "--admin", &server.admin], "")
            .await
            .status
            .success()
    );
    // A listener without a token accepts every request; the command keeps its token for itself.
    let open = Server::start("").await;
    let output = command(&["status", "--admin", &open.admin], TOKEN).await;
    assert!(output.status.success(), "{output:?}");
}

#[tokio::test]
async fn nonce_is_validated_and_proofs_are_limited() {
    let server = Server::start(TOKEN).await;
    let nonce = "0123456789abcdef".repeat(2);
    for (query, status) in [
        (String::new(), 400),
        ("?nonce=".to_owned(), 400),
        (format!("?nonce={}", &nonce[1..]), 400),
        (format!("?nonce={}g", &nonce[1..]), 400),
        (format!("?nonce={}", nonce.repeat(5)), 400),
        (format!("?nonce={nonce}&nonce={nonce}"), 400),
        (format!("?nonce={nonce}&more=1"), 400),
        (format!("?nonce={nonce}"), 200),
        (format!("?nonce={}", nonce.repeat(4)), 200),
    ] {
        assert_eq!(
            server.get(&format!("/auth{query}")).await,
            status,
            "{query}"
        );
    }
    // At once, because a proof becomes available every 50 ms.
    let path = format!("/auth?nonce={nonce}");
    let statuses = futures_util::future::join_all((0..100).map(|_| server.get(&path))).await;
    assert!(
        statuses.contains(&200) && statuses.contains(&429),
        "{statuses:?}"
    );
    assert_eq!(
        statuses
            .iter()
            .filter(|status| !matches!(status, 200 | 429))
            .count(),
        0
    );
    // A command waits until a proof is available again.
    let output = command(&["status", "--admin", &server.admin], TOKEN).await;
    assert!(output.status.success(), "{output:?}");
}

/// The commands that send the token, without `run --takeover`.
const COMMANDS: &[&[&str]] = &[
    &["status"],
    &["reload"],
    &["sessions"],
    &["kick", "--all"],
    &["tap"],
    &["cert", "list"],
    &["cert", "renew", "a.test"],
    &["drain", "--route", "chat"],
];

/// A process whose admin listener is on a TCP port.
struct Server {
    _child: Child,
    _folder: TempDir,
    admin: String,
}

impl Server {
    async fn start(token: &str) -> Server {
        let folder = tempfile::tempdir().expect("a folder");
        let admin = format!("127.0.0.1:{}", free_port());
        let file = folder.path().join("config.toml");
        fs::write(&file, config(&admin, token)).expect("the folder is writable");
        let child = Command::new(env!("CARGO_BIN_EXE_lockgate"))
            .args(["run", "--config"])
            .arg(&file)
            .env("HOME", folder.path())
            .env("LOCKGATE_DATA", folder.path().join("data"))
            .stdout(Stdio::null())
            .kill_on_drop(true)
            .spawn()
            .expect("it starts");
        let server = Server {
            _child: child,
            _folder: folder,
            admin,
        };
        eventually("the admin listener", async || {
            TcpStream::connect(&server.admin).await.is_ok()
        })
        .await;
        server
    }

    async fn get(&self, path: &str) -> u16 {
        let stream = TcpStream::connect(&self.admin).await.expect("it listens");
        let mut wire = Wire::stream(stream);
        wire.send(format!("GET {path} HTTP/1.1\r\nHost: localhost\r\n\r\n"))
            .await;
        wire.head().await.status()
    }
}

fn config(admin: &str, token: &str) -> String {
    format!(
        "[server]\nhttps = [\"127.0.0.1:0\"]\nhttp = []\nadmin = \"{admin}\"\nadmin_token = \"{token}\"\n\
         [tls]\ndev_ca = true\n[[routes]]\nhosts = [\"a.test\"]\nto = \"ws://127.0.0.1:1\"\n"
    )
}

/// Runs a command with `token` in its environment.
async fn command(arguments: &[&str], token: &str) -> Output {
    let home = tempfile::tempdir().expect("a folder");
    let command = Command::new(env!("CARGO_BIN_EXE_lockgate"))
        .args(arguments)
        .env("LOCKGATE_ADMIN_TOKEN", token)
        .env("HOME", home.path())
        .env("LOCKGATE_DATA", home.path().join("data"))
        .kill_on_drop(true)
        .output();
    within("the command's end", command)
        .await
        .expect("it starts")
}

/// Answers every request with `answer`, and records what it receives.
async fn impostor(listener: TcpListener, answer: String, received: Arc<Mutex<Vec<u8>>>) {
    loop {
        let (mut stream, _) = listener.accept().await.expect("a connection");
        let (answer, received) = (answer.clone(), received.clone());
        tokio::spawn(tokio::time::timeout(DEADLINE, async move {
            let mut chunk = [0; 4096];
            while let Ok(length @ 1..) = stream.read(&mut chunk).await {
                received.lock().expect("no panic").extend(&chunk[..length]);
                if chunk[..length].ends_with(b"\r\n\r\n") {
                    let _ = stream.write_all(answer.as_bytes()).await;
                }
            }
        }));
    }
}
