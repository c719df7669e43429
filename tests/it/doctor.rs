//! `lockgate doctor`: the CA, and the places to which `lockgate run` writes.

use crate::harness::{Backend, Lockgate};
use serde_json::Value;
use std::fs;
use tempfile::TempDir;
use tokio::{io::AsyncWriteExt, net::TcpListener};

#[tokio::test]
async fn doctor_fails_without_a_writable_certificate_store() {
    let folder = TempDir::new().expect("a folder");
    fs::write(folder.path().join("file"), "").expect("writable");
    // A file in the place of a directory, and a file system without files: root cannot write there either.
    for storage in ["file", "file/acme", "/proc/lockgate"] {
        let config =
            format!("[acme]\ndirectory = \"https://127.0.0.1:1/dir\"\nstorage = \"{storage}\"\n");
        let (code, findings) = doctor(&folder, &config).await;
        assert_eq!(code, Some(1));
        let found = finding(&findings, "acme.storage");
        assert_eq!(found["state"], "fail", "{found}");
        assert!(found["seen"].to_string().contains("install -d"), "{found}");
    }
    let config = "[acme]\ndirectory = \"https://127.0.0.1:1/dir\"\nstorage = \"new/deep\"\n";
    let (_, findings) = doctor(&folder, config).await;
    assert_eq!(
        finding(&findings, "acme.storage")["state"],
        "ok",
        "{findings}"
    );
    assert!(!folder.path().join("new").exists(), "doctor writes nothing");
}

#[tokio::test]
async fn doctor_fails_without_an_answer_of_the_ca() {
    let folder = TempDir::new().expect("a folder");
    let listen = async || {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        let address = listener.local_addr().expect("it has one");
        (listener, address)
    };
    // It accepts and is silent.
    let (silent, silent_at) = listen().await;
    // It answers without TLS.
    let (plain, plain_at) = listen().await;
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = plain.accept().await {
            let _ = stream.write_all(b"HTTP/1.1 400 Bad Request\r\n\r\n").await;
        }
    });
    for address in [
        "127.0.0.1:1".to_owned(),
        plain_at.to_string(),
        silent_at.to_string(),
    ] {
        let config = format!("[acme]\ndirectory = \"https://{address}/dir\"\nstorage = \"acme\"\n");
        let (code, findings) = doctor(&folder, &config).await;
        assert_eq!(code, Some(1), "{address}");
        let found = finding(&findings, "CA https://");
        assert_eq!(found["state"], "fail", "{address}: {found}");
        assert!(
            found["seen"].to_string().contains("acme.directory"),
            "{address}: {found}"
        );
    }
    drop(silent);
}

#[tokio::test]
async fn doctor_fails_if_the_access_log_or_the_admin_socket_cannot_be_created() {
    let folder = TempDir::new().expect("a folder");
    for (line, what) in [
        ("access = \"/proc/lockgate/access.log\"", "server.access"),
        ("admin = \"unix:/proc/lockgate/admin.sock\"", "server.admin"),
    ] {
        let (code, findings) = doctor(&folder, &format!("{line}\n[tls]\ndev_ca = true\n")).await;
        assert_eq!(code, Some(1), "{what}");
        assert_eq!(finding(&findings, what)["state"], "fail", "{findings}");
    }
    let lines = format!(
        "access = \"access.log\"\nadmin = \"unix:{}/a.sock\"\n[tls]\ndev_ca = true\n",
        folder.path().display()
    );
    let (code, findings) = doctor(&folder, &lines).await;
    assert_eq!(code, Some(0), "{findings}");
    for what in ["server.access", "server.admin", "development CA"] {
        assert_eq!(finding(&findings, what)["state"], "ok", "{findings}");
    }
    assert!(
        !folder.path().join("data").exists(),
        "doctor writes nothing"
    );
}

/// Runs `lockgate doctor` with these lines of `[server]`, and what follows them.
async fn doctor(folder: &TempDir, lines: &str) -> (Option<i32>, Value) {
    let backend = Backend::echo().await;
    let config = format!(
        "[server]\nhttps = [\"127.0.0.1:0\"]\nhttp = []\n{lines}\
         [[routes]]\nhosts = [\"chat.test\"]\nto = \"ws://{backend}\"\n"
    );
    fs::write(folder.path().join("lockgate.toml"), config).expect("writable");
    let arguments = ["doctor", "--json", "--config", "lockgate.toml"];
    let output = Lockgate::run(folder.path(), &arguments).await;
    let findings = serde_json::from_slice(&output.stdout);
    (
        output.status.code(),
        findings.unwrap_or_else(|_| panic!("{output:?}")),
    )
}

fn finding<'a>(findings: &'a Value, what: &str) -> &'a Value {
    let mut all = findings.as_array().expect("a list").iter();
    let found = all.find(|finding| {
        finding["what"]
            .as_str()
            .is_some_and(|it| it.starts_with(what))
    });
    found.unwrap_or_else(|| panic!("{what} in {findings}"))
}
