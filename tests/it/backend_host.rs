//! `host` of a route or a backend: the `Host` that the backend receives.

use crate::harness::{Backend, Head, Lockgate, switching_protocols};
use std::net::SocketAddr;

fn config(backend: SocketAddr, of_backend: &str, of_route: &str, more: &str) -> String {
    format!(
        "[server]\nhttps = [\"127.0.0.1:0\"]\nhttp = []\n[tls]\ndev_ca = true\n\
         [pools.p]\nbackends = [{{ address = \"ws://{backend}\"{of_backend} }}]\n{more}\n\
         [[routes]]\nhosts = [\"a.test\"]\npool = \"p\"\norigins = [\"*\"]\n{of_route}\n"
    )
}

const CASES: [(&str, &str, &str); 4] = [
    ("", "", "a.test"),
    ("", "host = \"localhost:9222\"", "localhost:9222"),
    (", host = \"b.internal\"", "", "b.internal"),
    (
        ", host = \"b.internal\"",
        "host = \"localhost:9222\"",
        "b.internal",
    ),
];

/// Checks the fields of a request that name a host.
fn check(head: &Head, expected: &str) {
    assert_eq!(head.all("host"), [expected]);
    assert_eq!(head.get("x-forwarded-host"), Some("a.test"));
    let forwarded = head.get("forwarded").expect("a field");
    assert!(forwarded.contains("host=a.test"), "{forwarded}");
}

#[tokio::test]
async fn backend_receives_the_configured_host() {
    for (of_backend, of_route, expected) in CASES {
        let backend = Backend::listen().await;
        let config = config(backend.address, of_backend, of_route, "");
        let lockgate = Lockgate::with_file(&config).start().await;
        let mut client = lockgate.upgrade("/", "").await;
        let (_server, head) = backend.accept_session().await;
        check(&head, expected);
        assert_eq!(client.head().await.status(), 101);
        let mut client = lockgate
            .request("GET / HTTP/1.1\r\nHost: a.test\r\n\r\n")
            .await;
        let mut server = backend.accept().await;
        check(&server.head().await, expected);
        server.send("HTTP/1.1 204 No Content\r\n\r\n").await;
        assert_eq!(client.head().await.status(), 204);
        let mut client = lockgate.h2().await;
        let opening = client.websocket("/", &[]);
        let answering = async {
            let mut server = backend.accept().await;
            let head = server.head().await;
            check(&head, expected);
            server.send(switching_protocols(&head, "")).await;
            server
        };
        let ((answer, _session), _server) = tokio::join!(opening, answering);
        assert_eq!(answer.status(), 200);
    }
}

#[tokio::test]
async fn health_check_sends_the_host_of_its_backend() {
    for check in ["http", "websocket"] {
        let backend = Backend::listen().await;
        let health = format!("health = {{ check = \"{check}\", interval = \"100ms\" }}");
        let config = config(backend.address, ", host = \"b.internal\"", "", &health);
        let _lockgate = Lockgate::with_file(&config).start().await;
        let head = backend.accept().await.head().await;
        assert_eq!(head.get("host"), Some("b.internal"), "{check}");
    }
}

#[tokio::test]
async fn explain_shows_the_host() {
    for (of_backend, of_route, expected) in CASES {
        let folder = tempfile::TempDir::new().expect("a folder");
        let address = SocketAddr::from(([127, 0, 0, 1], 9));
        let file = folder.path().join("lockgate.toml");
        std::fs::write(&file, config(address, of_backend, of_route, "")).expect("writable");
        let file = file.display().to_string();
        let run = async |more: &[&str]| {
            let arguments = [&["explain", "wss://a.test/", "--config", &*file], more].concat();
            let output = Lockgate::run(folder.path(), &arguments).await;
            String::from_utf8(output.stdout).expect("UTF-8")
        };
        let text = run(&[]).await;
        assert!(text.contains(&format!("host: {expected}")), "{text}");
        let report: serde_json::Value =
            serde_json::from_str(&run(&["--json"]).await).expect("JSON");
        let of_backends = report["hosts"].as_array().expect("a list");
        match of_backend {
            "" => assert!(of_backends.is_empty(), "{report}"),
            _ => assert_eq!(of_backends[0]["host"], expected, "{report}"),
        }
    }
}

#[tokio::test]
async fn invalid_host_is_an_error_with_its_line() {
    for host in ["a b", "https://a", "a/b", "u@a", "a:0", "a:x"] {
        let folder = tempfile::TempDir::new().expect("a folder");
        let address = SocketAddr::from(([127, 0, 0, 1], 9));
        let of_route = format!("host = \"{host}\"");
        let file = folder.path().join("lockgate.toml");
        std::fs::write(&file, config(address, "", &of_route, "")).expect("writable");
        let file = file.display().to_string();
        let output = Lockgate::run(folder.path(), &["check", "--config", &file]).await;
        let text = String::from_utf8([output.stdout, output.stderr].concat()).expect("UTF-8");
        assert_eq!(output.status.code(), Some(64), "{text}");
        assert!(text.contains(":13:"), "{text}");
    }
}
