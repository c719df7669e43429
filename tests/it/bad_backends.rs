//! Backends with invalid HTTP responses: the client gets a valid response or none, and Lockgate keeps running.

mod valid_form;

use crate::harness::{Backend, EndKind, Lockgate};

const GET: &str = "GET / HTTP/1.1\r\nHost: a.test\r\n\r\n";

#[tokio::test]
async fn invalid_response_is_a_502() {
    let endless = "HTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\n".repeat(20_000);
    let bomb = format!("HTTP/1.1 200 OK\r\nX: {}\r\n\r\n", "x".repeat(2_000_000));
    let many = format!("HTTP/1.1 200 OK\r\n{}\r\n", "X: y\r\n".repeat(50_000));
    for response in [
        "",
        "hello\r\n\r\n",
        "HTTP/1.1 abc OK\r\n\r\n",
        "HTTP/9.9 200 OK\r\n\r\n",
        "HTTP/1.1 200 OK\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\nx",
        "HTTP/1.1 200 OK\r\nContent-Length: -1\r\n\r\nx",
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: gzip, chunked\r\n\r\n0\r\n\r\n",
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: gzip\r\n\r\nx",
        "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\r\n",
        &endless,
        &bomb,
        &many,
    ] {
        let backend = Backend::listen().await;
        let lockgate = Lockgate::to(backend.address).start().await;
        let mut client = lockgate.request(GET).await;
        let mut server = backend.accept().await;
        server.head().await;
        // Lockgate may close the connection in the middle of a long response.
        let mut sent = 0;
        while let Some(n) = server.try_send(&response.as_bytes()[sent..]).await {
            sent += n;
        }
        drop(server);
        assert_eq!(client.head().await.status(), 502, "{:.60}", response);
        // The process keeps running.
        assert!(lockgate.status().await["state"] == "ready");
        assert!(
            !lockgate.stderr().contains("panicked"),
            "{}",
            lockgate.stderr()
        );
    }
}

#[tokio::test]
async fn truncated_body_is_not_completed() {
    for response in [
        "HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nhalf",
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n4\r\nhalf\r\n",
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\nhalf\r\n",
    ] {
        let backend = Backend::listen().await;
        let lockgate = Lockgate::to(backend.address).start().await;
        let mut client = lockgate.request(GET).await;
        let mut server = backend.accept().await;
        server.head().await;
        server.send(response).await;
        drop(server);
        // With or without a head, the stream ends before the body does.
        let rest = String::from_utf8(client.end().await.bytes).expect("text");
        let body = rest.split_once("\r\n\r\n").map_or("", |(_, body)| body);
        assert!(
            !body.ends_with("0\r\n\r\n") && body.len() < 10,
            "{response:?}: {rest:?}"
        );
    }
}

#[tokio::test]
async fn transfer_coding_overrides_content_length() {
    let backend = Backend::listen().await;
    let lockgate = Lockgate::to(backend.address).start().await;
    let mut client = lockgate.request(GET).await;
    let mut server = backend.accept().await;
    server.head().await;
    server.send("HTTP/1.1 200 OK\r\nContent-Length: 3\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nwhole\r\n0\r\n\r\n").await;
    let head = client.head().await;
    assert_eq!(head.get("content-length"), None, "{head:?}");
    assert_eq!(client.body(&head).await, b"whole");
}

#[tokio::test]
async fn bytes_after_a_response_are_discarded() {
    let backend = Backend::listen().await;
    let lockgate = Lockgate::to(backend.address).start().await;
    let mut client = lockgate.request(GET).await;
    let mut server = backend.accept().await;
    server.head().await;
    server.send("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nokHTTP/1.1 200 OK\r\nContent-Length: 6\r\n\r\nforged").await;
    let head = client.head().await;
    assert_eq!(client.body(&head).await, b"ok");
    // The next request gets its own response.
    client.send(GET).await;
    let mut next = backend.accept().await;
    next.head().await;
    next.send("HTTP/1.1 200 OK\r\nContent-Length: 4\r\nConnection: close\r\n\r\ntrue")
        .await;
    let head = client.head().await;
    assert_eq!(client.body(&head).await, b"true");
}

#[tokio::test]
async fn refusal_with_wrong_content_length_closes_the_connection() {
    let backend = Backend::listen().await;
    let lockgate = Lockgate::to(backend.address).start().await;
    let mut client = lockgate.upgrade("/", "").await;
    let mut server = backend.accept().await;
    server.head().await;
    server
        .send("HTTP/1.1 403 Forbidden\r\nContent-Length: 100\r\n\r\nno")
        .await;
    drop(server);
    assert_eq!(client.head().await.status(), 403);
    let end = client.end().await;
    assert_eq!(end.bytes, b"no");
    assert_ne!(end.kind, EndKind::Reset);
}
