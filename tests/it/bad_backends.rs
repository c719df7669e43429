//! Backends that lie in plain HTTP: the client gets a correct response or none, and Lockgate keeps running.

use crate::harness::{Backend, How, Lockgate};

const GET: &str = "GET / HTTP/1.1\r\nHost: a.test\r\n\r\n";

#[tokio::test]
async fn invalid_response_is_a_502() {
    let endless = "HTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\n".repeat(20_000);
    let bomb = format!("HTTP/1.1 200 OK\r\nX: {}\r\n\r\n", "x".repeat(2_000_000));
    let many = format!("HTTP/1.1 200 OK\r\n{}\r\n", "X: y\r\n".repeat(50_000));
    for lie in [
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
        // It may hang up in the middle of a long one.
        let mut sent = 0;
        while let Some(n) = server.try_send(&lie.as_bytes()[sent..]).await {
            sent += n;
        }
        drop(server);
        assert_eq!(client.head().await.status(), 502, "{:.60}", lie);
        // The connection, and the process, are as good as before.
        assert!(lockgate.status().await["state"] == "ready");
        assert!(
            !lockgate.stderr().contains("panicked"),
            "{}",
            lockgate.stderr()
        );
    }
}

#[tokio::test]
async fn a_body_that_ends_too_early_is_not_passed_off_as_whole() {
    for lie in [
        "HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nhalf",
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n4\r\nhalf\r\n",
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\nhalf\r\n",
    ] {
        let backend = Backend::listen().await;
        let lockgate = Lockgate::to(backend.address).start().await;
        let mut client = lockgate.request(GET).await;
        let mut server = backend.accept().await;
        server.head().await;
        server.send(lie).await;
        drop(server);
        // With or without a head: the stream is torn, or ends before the body does.
        let rest = String::from_utf8(client.end().await.bytes).expect("text");
        let body = rest.split_once("\r\n\r\n").map_or("", |(_, body)| body);
        assert!(
            !body.ends_with("0\r\n\r\n") && body.len() < 10,
            "{lie:?}: {rest:?}"
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
    // The next request is answered by what is sent for it.
    client.send(GET).await;
    let mut next = backend.accept().await;
    next.head().await;
    next.send("HTTP/1.1 200 OK\r\nContent-Length: 4\r\nConnection: close\r\n\r\ntrue")
        .await;
    let head = client.head().await;
    assert_eq!(client.body(&head).await, b"true");
}

#[tokio::test]
async fn a_refusal_with_a_lying_length_ends_the_connection() {
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
    assert_ne!(end.how, How::Reset);
}
