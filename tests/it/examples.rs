//! Every directory of `examples/`: its server is started, its configuration is used with other ports, its page is
//! fetched, and clients use its WebSocket like the page.

use crate::harness::{Frame, Lockgate, Program, Wire, eventually, free_port, handshake};
use std::{
    fs,
    net::{Ipv4Addr, SocketAddr, TcpListener},
    path::Path,
    time::Duration,
};
use tokio::{net::TcpStream, process::Command};

#[tokio::test]
async fn websockets_chat_sends_lines_to_all() {
    let example = Example::start("websockets-chat", 8765).await;
    let (mut one, mut other) = (example.socket().await, example.socket().await);
    one.send_frame(Frame::text("hello")).await;
    assert_eq!(one.text().await, "127.0.0.1: hello");
    assert_eq!(other.text().await, "127.0.0.1: hello");
}

#[tokio::test]
async fn fastapi_text_is_shared() {
    let example = Example::start("fastapi-text", 8000).await;
    let (mut one, mut other) = (example.socket().await, example.socket().await);
    assert_eq!((&*one.text().await, &*other.text().await), ("", ""));
    one.send_frame(Frame::text("both see this")).await;
    assert_eq!(other.text().await, "both see this");
}

#[tokio::test]
async fn tornado_dashboard_is_pushed() {
    let example = Example::start("tornado-dashboard", 8888).await;
    let mut viewer = example.socket().await;
    for _ in 0..2 {
        let reading = viewer.text().await;
        assert!(reading.contains("\"viewers\": 1"), "{reading}");
    }
}

#[tokio::test]
async fn aiohttp_game_sends_movements_to_others() {
    let example = Example::start("aiohttp-game", 8080).await;
    let (mut one, mut other) = (example.socket().await, example.socket().await);
    assert!(one.text().await.contains("\"you\": 1"));
    assert!(other.text().await.contains("\"you\": 2"));
    let before = other.until("\"1\": [").await;
    one.send_frame(Frame::text("right")).await;
    assert_ne!(other.text().await, before);
}

#[tokio::test]
async fn flask_sock_notice_is_delivered() {
    let example = Example::start("flask-sock-notifications", 5000).await;
    let mut subscriber = example.socket().await;
    let mut poster = example.lockgate.connect_as("localhost").await;
    let post = "POST /notify HTTP/1.1\r\nHost: localhost\r\nContent-Length: 5\r\n\r\nready";
    // Flask-Sock answers the handshake before the example subscribes the client, so that the first notices may be lost.
    let mut ticker = tokio::time::interval(Duration::from_millis(100));
    let posting = async {
        loop {
            ticker.tick().await;
            poster.send(post).await;
            assert_eq!(poster.head().await.status(), 204);
        }
    };
    tokio::select! {
        notice = subscriber.text() => assert_eq!(notice, "ready"),
        () = posting => {}
    }
}

#[tokio::test]
async fn gevent_line_is_drawn_for_all() {
    let example = Example::start("gevent-legacy", 5001).await;
    let (mut one, mut other) = (example.socket().await, example.socket().await);
    one.send_frame(Frame::text("[0,0,1,1]")).await;
    assert_eq!(other.text().await, "[0,0,1,1]");
    let mut late = example.socket().await;
    assert_eq!(late.text().await, "[0,0,1,1]");
}

#[tokio::test]
async fn websocket_server_messages_reach_all() {
    // The page has the port after that of the WebSockets.
    let example = Example::start("websocket-server-legacy", 9001).await;
    let mut one = example.socket().await;
    one.until("has come").await;
    let mut other = example.socket().await;
    other.until("has come").await;
    one.send_frame(Frame::text("grüß dich")).await;
    other.until(": grüß dich").await;
}

#[tokio::test]
async fn autobahn_prices_are_wamp_events() {
    let example = Example::start("autobahn-ticker", 9000).await;
    let offer = "Sec-WebSocket-Protocol: wamp.2.json\r\n";
    let mut ticker = example.socket_at("/ws", offer).await;
    ticker
        .send_frame(Frame::text(
            r#"[1, "realm1", {"roles": {"subscriber": {}}}]"#,
        ))
        .await;
    assert!(ticker.text().await.starts_with("[2, "));
    ticker
        .send_frame(Frame::text(r#"[32, 7, {}, "ticker.ACME"]"#))
        .await;
    assert_eq!(ticker.text().await, "[33, 7, 1]");
    for _ in 0..2 {
        assert!(ticker.text().await.starts_with("[36, 1, "));
    }
    let without = example.try_socket("/ws", "").await.head().await;
    assert_eq!(without.status(), 404);
}

#[tokio::test]
async fn channels_rooms_are_separate() {
    let example = Example::start("channels-rooms", 8001).await;
    let mut one = example.socket_at("/ws/kitchen", "").await;
    let mut other = example.socket_at("/ws/kitchen", "").await;
    let mut outsider = example.socket_at("/ws/attic", "").await;
    one.send_frame(Frame::text("tea is ready")).await;
    for socket in [&mut one, &mut other] {
        assert_eq!(socket.text().await, "127.0.0.1: tea is ready");
    }
    outsider.send_frame(Frame::text("dust")).await;
    assert_eq!(outsider.text().await, "127.0.0.1: dust");
}

#[tokio::test]
async fn socketio_vote_counts_by_polling_and_by_websocket() {
    let example = Example::start("socketio-updates", 5000).await;
    let mut poller = example.lockgate.connect_as("localhost").await;
    poller
        .send("GET /socket.io/?EIO=4&transport=polling HTTP/1.1\r\nHost: localhost\r\nOrigin: https://localhost\r\n\r\n")
        .await;
    let head = poller.head().await;
    let opened = poller.body(&head).await;
    assert!(opened.starts_with(b"0{\"sid\""), "{opened:?}");

    let mut voter = example
        .socket_at("/socket.io/?EIO=4&transport=websocket", "")
        .await;
    assert!(voter.text().await.starts_with("0{"));
    voter.send_frame(Frame::text("40")).await;
    voter.until("40{").await;
    voter.send_frame(Frame::text(r#"42["vote","tea"]"#)).await;
    voter.until(r#"42["update",{"tea":1,"#).await;
}

/// What the README states: python-socketio computes the origin from the headers that Lockgate sends to every server.
#[tokio::test]
async fn socketio_allows_the_origin_of_its_page_and_no_other() {
    let example = Example::start("socketio-updates", 5000).await;
    let config = fs::read_to_string(example.lockgate.folder().join("config.toml"));
    let without = config
        .expect("written by the harness")
        .replace("framework = \"socketio\"", "");
    let without = Lockgate::with_file(&without).start().await;
    for lockgate in [&example.lockgate, &without] {
        for (origin, status) in [("https://localhost", 200), ("https://evil.example", 400)] {
            let mut client = lockgate.connect_as("localhost").await;
            client
                .send(format!(
                    "GET /socket.io/?EIO=4&transport=polling HTTP/1.1\r\nHost: localhost\r\nOrigin: {origin}\r\n\r\n"
                ))
                .await;
            assert_eq!(client.head().await.status(), status, "{origin}");
        }
    }
}

/// `lockgate run` and `lockgate check` need no argument in the directory of an example.
#[tokio::test]
async fn readme_commands_work_in_the_directory_of_the_example() {
    let mut count = 0;
    for entry in fs::read_dir("examples").expect("there").flatten() {
        let folder = entry.path();
        if !folder.join("lockgate.toml").exists() {
            continue;
        }
        count += 1;
        let readme = fs::read_to_string(folder.join("README.md")).expect("it has one");
        let server = if folder.join("server.js").exists() {
            "`node server.js`"
        } else {
            "`python3 server.py`"
        };
        for part in ["`lockgate run`", server] {
            assert!(readme.contains(part), "{}: {part}", folder.display());
        }
        let data = tempfile::tempdir().expect("a folder");
        let mut check = Command::new(env!("CARGO_BIN_EXE_lockgate"));
        check.arg("check").current_dir(&folder).env_clear();
        check.env("LOCKGATE_DATA", data.path());
        let output = check.output().await.expect("it starts");
        assert!(
            output.status.success() && output.stderr.is_empty(),
            "{}: {output:?}",
            folder.display()
        );
    }
    assert!(count >= 10, "{count}");
}

#[tokio::test]
async fn node_ddp_task_is_added() {
    let example = Example::start("node-ddp", 3000).await;
    let mut client = example.socket_at("/websocket", "").await;
    for (sent, expected) in [
        (
            r#"{"msg":"connect","version":"1","support":["1"]}"#,
            r#""msg":"connected""#,
        ),
        (
            r#"{"msg":"sub","id":"a","name":"tasks"}"#,
            r#"{"msg":"ready","subs":["a"]}"#,
        ),
        (
            r#"{"msg":"method","id":"b","method":"add","params":["more"]}"#,
            r#""fields":{"text":"more"}"#,
        ),
        (r#"{"msg":"ping","id":"c"}"#, r#"{"msg":"pong","id":"c"}"#),
    ] {
        client.send_frame(Frame::text(sent)).await;
        client.until(expected).await;
    }
}

/// The deployment examples have no server and need a container engine: only their variables and configuration are
/// checked.
#[tokio::test]
async fn manifests_use_known_variables_and_a_valid_configuration() {
    let folder = tempfile::tempdir().expect("a folder");
    let help = Lockgate::run(folder.path(), &["run", "--help"]).await;
    let help = String::from_utf8(help.stdout).expect("UTF-8");
    // Lines are wrapped.
    let help: Vec<&str> = help.split_whitespace().collect();
    let help = help.join(" ");
    let compose = fs::read_to_string("examples/compose/compose.yaml").expect("there");
    let sidecar = fs::read_to_string("examples/kubernetes/sidecar.yaml").expect("there");
    let mut variables = 0;
    for word in compose.split_whitespace().chain(sidecar.split_whitespace()) {
        let word = word.trim_end_matches([':', ',']);
        if word.starts_with("LOCKGATE_") {
            assert!(help.contains(&format!("env: {word}=")), "{word}");
            variables += 1;
        }
    }
    assert!(variables >= 5, "{variables}");

    let config: String = sidecar
        .lines()
        .skip_while(|line| !line.contains("lockgate.toml: |"))
        .skip(1)
        .take_while(|line| line.is_empty() || line.starts_with("    "))
        .map(|line| format!("{}\n", line.trim_start_matches("    ")))
        .collect();
    let name = ["chat.example.com".to_owned()];
    let pair = rcgen::generate_simple_self_signed(name).expect("a certificate");
    for (file, text) in [
        ("lockgate.toml", config),
        ("tls.crt", pair.cert.pem()),
        ("tls.key", pair.signing_key.serialize_pem()),
    ] {
        fs::write(folder.path().join(file), text).expect("writable");
    }
    let check = Lockgate::run(folder.path(), &["check", "--config", "lockgate.toml"]).await;
    assert!(
        check.status.success() && check.stderr.is_empty(),
        "{check:?}"
    );
}

#[test]
fn every_example_is_tested() {
    let tests = include_str!("examples.rs");
    for folder in fs::read_dir("examples")
        .expect("there")
        .flatten()
        .filter(|entry| entry.path().join("server.py").exists())
    {
        let name = folder.file_name().into_string().expect("UTF-8");
        assert!(
            tests.contains(&format!("start(\"{name}\""))
                || tests.contains(&format!("examples/{name}/")),
            "no test covers {name}"
        );
    }
}

struct Example {
    lockgate: Lockgate,
    _server: Program,
}

impl Example {
    /// Starts an example. `port` is the port of its server in its configuration; an example may also use the next one.
    async fn start(name: &str, port: u16) -> Example {
        let free = two_free_ports();
        let server = Program::example(name, free);
        let address = SocketAddr::from((Ipv4Addr::LOCALHOST, free));
        eventually("the server of the example", async || {
            TcpStream::connect(address).await
        })
        .await;
        let folder = Path::new("examples").join(name);
        let config = fs::read_to_string(folder.join("lockgate.toml")).expect("it has one");
        assert!(
            config.contains(&format!("127.0.0.1:{port}")),
            "{name} talks to another port"
        );
        let config = config
            .replace(&port.to_string(), &free.to_string())
            .replace(&(port + 1).to_string(), &(free + 1).to_string());
        let lockgate = Lockgate::with_file(&config.replace("[::]:8443", "127.0.0.1:0"))
            .start()
            .await;
        let example = Example {
            lockgate,
            _server: server,
        };
        example.page().await;
        example
    }

    async fn page(&self) {
        let mut client = self.lockgate.connect_as("localhost").await;
        client
            .send("GET / HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")
            .await;
        let head = client.head().await;
        assert_eq!(head.status(), 200);
        let body = String::from_utf8(client.body(&head).await).expect("UTF-8");
        assert!(body.contains("new WebSocket(`wss://${"), "{body}");
    }

    /// Opens a WebSocket like the page.
    async fn socket(&self) -> Wire {
        self.socket_at("/ws", "").await
    }

    async fn socket_at(&self, path: &str, more: &str) -> Wire {
        let mut client = self.try_socket(path, more).await;
        assert_eq!(client.head().await.status(), 101, "{path}");
        client
    }

    /// Sends the handshake; the response is unread.
    async fn try_socket(&self, path: &str, more: &str) -> Wire {
        let mut client = self.lockgate.connect_as("localhost").await;
        let request = handshake(path, &format!("Origin: https://localhost\r\n{more}"))
            .replace("Host: a.test", "Host: localhost");
        client.send(request).await;
        client
    }
}

/// The first of two consecutive free ports.
fn two_free_ports() -> u16 {
    let bind = |port| TcpListener::bind((Ipv4Addr::LOCALHOST, port));
    loop {
        let first = free_port();
        if bind(first + 1).is_ok() {
            return first;
        }
    }
}
