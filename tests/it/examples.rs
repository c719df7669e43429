//! Every folder of `examples/` with a server: it is started, its configuration runs as it is but for the ports, its page is
//! fetched, and two clients use it.

use crate::harness::{DEADLINE, Frame, Lockgate, Python, Wire, handshake, within};
use std::{
    fs,
    net::{Ipv4Addr, SocketAddr, TcpListener},
    path::Path,
};
use tokio::net::TcpStream;

#[tokio::test]
async fn a_chat_line_reaches_everybody() {
    let example = Example::start("websockets-chat", 8765).await;
    let (mut one, mut other) = (example.socket().await, example.socket().await);
    one.send_frame(Frame::text("hello")).await;
    assert_eq!(one.frame().await, Frame::text("127.0.0.1: hello"));
    assert_eq!(other.frame().await, Frame::text("127.0.0.1: hello"));
}

#[tokio::test]
async fn a_text_is_shared() {
    let example = Example::start("fastapi-text", 8000).await;
    let (mut one, mut other) = (example.socket().await, example.socket().await);
    assert_eq!(
        (one.frame().await, other.frame().await),
        (Frame::text(""), Frame::text(""))
    );
    one.send_frame(Frame::text("both see this")).await;
    assert_eq!(other.frame().await, Frame::text("both see this"));
}

#[tokio::test]
async fn a_dashboard_is_pushed() {
    let example = Example::start("tornado-dashboard", 8888).await;
    let mut viewer = example.socket().await;
    for _ in 0..2 {
        let reading = viewer.frame().await;
        let text = String::from_utf8(reading.payload).expect("text");
        assert!(text.contains("\"viewers\": 1"), "{text}");
    }
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
            tests.contains(&format!("start(\"{name}\"")),
            "nobody starts {name}"
        );
    }
}

struct Example {
    lockgate: Lockgate,
    _server: Python,
}

impl Example {
    /// `port` is the one that its server and its configuration agree on.
    async fn start(name: &str, port: u16) -> Example {
        let free = TcpListener::bind("127.0.0.1:0")
            .and_then(|socket| socket.local_addr())
            .expect("a free port")
            .port();
        let folder = Path::new("examples").join(name);
        let server = Python::start(
            &format!("../../examples/{name}/server.py"),
            &[&free.to_string()],
        );
        let address = SocketAddr::from((Ipv4Addr::LOCALHOST, free));
        within("its server", async {
            while TcpStream::connect(address).await.is_err() {}
        })
        .await;
        let config = fs::read_to_string(folder.join("lockgate.toml")).expect("it has one");
        assert!(
            config.contains(&format!("127.0.0.1:{port}")),
            "{name} talks to another port"
        );
        let config = config.replace(&port.to_string(), &free.to_string());
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
        assert!(
            body.contains("new WebSocket(`wss://${location.host}/ws`)"),
            "{body}"
        );
    }

    /// A WebSocket, opened as the page opens it.
    async fn socket(&self) -> Wire {
        let mut client = self.lockgate.connect_as("localhost").await;
        let request = handshake("/ws", "Origin: https://localhost\r\n")
            .replace("Host: a.test", "Host: localhost");
        client.send(request).await;
        assert_eq!(client.head().await.status(), 101, "within {DEADLINE:?}");
        client
    }
}
