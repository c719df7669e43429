//! Which connections to a backend are reused for the next request: none on which a part of a body may be left.

use crate::harness::{Backend, Lockgate, Program, Wire, eventually};
use std::collections::BTreeSet;
use tokio::{net::TcpListener, sync::mpsc};

/// The beginning of a request, in a body: the next request on the connection would complete it.
const HIDDEN: &str = "GET /hidden HTTP/1.1\r\nHost: a.test\r\nX-Rest: ";

fn request(method: &str, path: &str, body: &str) -> String {
    let length = match body {
        "" => String::new(),
        body => format!("Content-Length: {}\r\n", body.len()),
    };
    format!("{method} {path} HTTP/1.1\r\nHost: a.test\r\n{length}\r\n{body}")
}

/// Sends the request on a new connection, and returns the body of the response.
async fn response(lockgate: &Lockgate, request: &str) -> String {
    let mut client = lockgate.request(request).await;
    let head = client.head().await;
    assert_eq!(head.status(), 200);
    if request.starts_with("HEAD") {
        return String::new();
    }
    String::from_utf8(client.body(&head).await).expect("UTF-8")
}

#[tokio::test]
async fn unread_body_does_not_become_the_next_request() {
    let (_server, address) = Program::server("http_server.py").await;
    let lockgate = Lockgate::to(address).start().await;
    for method in ["GET", "HEAD", "DELETE", "OPTIONS"] {
        let mut wrong = 0;
        for n in 0..20 {
            response(&lockgate, &request(method, "/first", HIDDEN)).await;
            let path = format!("/{n}");
            wrong += usize::from(response(&lockgate, &request("GET", &path, "")).await != path);
        }
        println!("{method}: {wrong} of 20 requests received another response");
        assert_eq!(wrong, 0, "{method}");
    }
}

/// Answers the request on `server`, and returns whether the next request comes on the same connection.
async fn is_reused(
    lockgate: &Lockgate,
    backend: &Backend,
    mut server: Wire,
    mut client: Wire,
) -> bool {
    server
        .send("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok")
        .await;
    let head = client.head().await;
    assert_eq!(client.body(&head).await, b"ok");
    next_is_on(lockgate, backend, &mut server).await
}

/// Returns whether one of several requests comes on this connection; one that is sent too early may open another.
async fn next_is_on(lockgate: &Lockgate, backend: &Backend, server: &mut Wire) -> bool {
    for _ in 0..5 {
        let _client = lockgate.request(request("GET", "/next", "")).await;
        tokio::select! {
            true = server.has_more() => return true,
            mut other = backend.accept() => {
                other.head().await;
                other.send("HTTP/1.1 204 No Content\r\nConnection: close\r\n\r\n").await;
            }
        }
    }
    false
}

#[tokio::test]
async fn connection_is_reused_after_a_request_whose_body_the_method_defines() {
    for (method, body, expected) in [
        ("GET", "", true),
        ("DELETE", "", true),
        ("POST", "", true),
        ("POST", "body", true),
        ("PUT", "body", true),
        ("PATCH", "body", true),
        ("GET", "body", false),
        ("HEAD", "body", false),
        ("DELETE", "body", false),
        ("OPTIONS", "body", false),
        ("QUERY", "body", false),
    ] {
        let backend = Backend::listen().await;
        let lockgate = Lockgate::to(backend.address).start().await;
        let client = lockgate.request(request(method, "/", body)).await;
        let mut server = backend.accept().await;
        server.head().await;
        assert_eq!(server.exactly(body.len()).await, body.as_bytes());
        if method == "HEAD" {
            let mut client = client;
            server
                .send("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n")
                .await;
            assert_eq!(client.head().await.status(), 200);
            let reused = next_is_on(&lockgate, &backend, &mut server).await;
            assert_eq!(reused, expected, "{method}");
            continue;
        }
        let reused = is_reused(&lockgate, &backend, server, client).await;
        assert_eq!(reused, expected, "{method} {body}");
    }
}

#[tokio::test]
async fn connection_is_not_reused_if_the_response_precedes_the_whole_body() {
    for chunked in [false, true] {
        let backend = Backend::listen().await;
        let lockgate = Lockgate::to(backend.address).start().await;
        let (framing, first, rest) = if chunked {
            (
                "Transfer-Encoding: chunked",
                "2\r\nbo\r\n",
                "2\r\ndy\r\n0\r\n\r\n",
            )
        } else {
            ("Content-Length: 4", "bo", "dy")
        };
        let head = format!("POST / HTTP/1.1\r\nHost: a.test\r\n{framing}\r\n\r\n{first}");
        let mut client = lockgate.request(head).await;
        let mut server = backend.accept().await;
        server.head().await;
        server.exactly(first.len()).await;
        server
            .send("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok")
            .await;
        let head = client.head().await;
        assert_eq!(client.body(&head).await, b"ok");
        client.send(rest).await;
        // The rest is still forwarded.
        assert_eq!(server.exactly(rest.len()).await, rest.as_bytes());
        assert!(
            !next_is_on(&lockgate, &backend, &mut server).await,
            "{framing}"
        );
    }
}

#[tokio::test]
async fn reuse_off_opens_a_connection_for_each_request() {
    let backend = Backend::listen().await;
    let config = format!(
        "[server]\nhttps = [\"127.0.0.1:0\"]\nhttp = []\n[tls]\ndev_ca = true\n\
         [pools.p]\nbackends = [{{ address = \"ws://{}\", reuse = \"off\" }}]\n\
         [[routes]]\nhosts = [\"a.test\"]\npool = \"p\"\n",
        backend.address
    );
    let lockgate = Lockgate::with_file(&config).start().await;
    let client = lockgate.request(request("GET", "/", "")).await;
    let mut server = backend.accept().await;
    assert_eq!(server.head().await.get("connection"), Some("close"));
    assert!(!is_reused(&lockgate, &backend, server, client).await);
    // A reload changes it for the next request.
    lockgate.write_config(&config.replace("off", "on"));
    eventually("the reload", async || {
        lockgate
            .metric_or_zero("lockgate_config_reloads_total{outcome=\"applied\"}")
            .await
            >= 1.0
    })
    .await;
    let client = lockgate.request(request("GET", "/", "")).await;
    let mut server = backend.accept().await;
    server.head().await;
    assert!(is_reused(&lockgate, &backend, server, client).await);
}

#[tokio::test]
async fn connection_is_not_reused_from_another_source_address() {
    let backend = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
    let address = backend.local_addr().expect("bound");
    let mut config =
        "[server]\nhttps = [\"127.0.0.1:0\"]\nhttp = []\n[tls]\ndev_ca = true\n".to_owned();
    for (name, source) in [("a", "127.0.0.2"), ("b", "127.0.0.3")] {
        config += &format!(
            "[pools.{name}]\nbackends = [{{ address = \"ws://{address}\", sources = [\"{source}\"] }}]\n\
             [[routes]]\nname = \"{name}\"\nhosts = [\"a.test\"]\npath = \"/{name}\"\npool = \"{name}\"\n"
        );
    }
    let lockgate = Lockgate::with_file(&config).start().await;
    let (sources, mut source) = mpsc::unbounded_channel();
    tokio::spawn(async move {
        while let Ok((stream, peer)) = backend.accept().await {
            let sources = sources.clone();
            tokio::spawn(async move {
                let mut wire = Wire::plain(stream);
                loop {
                    wire.head().await;
                    let _ = sources.send(peer);
                    wire.send("HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n")
                        .await;
                }
            });
        }
    });
    let mut ports = BTreeSet::new();
    for (path, expected) in [("/a", "127.0.0.2"), ("/b", "127.0.0.3")].repeat(5) {
        response(&lockgate, &request("GET", path, "")).await;
        let peer = source.recv().await.expect("a request");
        assert_eq!(peer.ip().to_string(), expected, "{path}");
        ports.insert(peer);
    }
    // Each pool still reuses its own.
    assert!(ports.len() < 10, "{ports:?}");
}
