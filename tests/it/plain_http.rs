//! Plain HTTP on the route of a WebSocket: requests and responses are streamed.

use crate::harness::{Backend, EndKind, Lockgate, Wire};

#[tokio::test]
async fn connection_serves_several_requests() {
    let (lockgate, backend) = start().await;
    let mut client = lockgate.connect().await;
    for path in ["/one", "/two?x=1", "/three"] {
        client.send(get(path)).await;
        let mut server = backend.accept().await;
        let seen = server.head().await;
        assert_eq!(seen.start, format!("GET {path} HTTP/1.1"));
        assert_eq!(seen.get("host"), Some("a.test"));
        assert_eq!(seen.get("x-forwarded-proto"), Some("https"));
        // The backend closes its connection each time; the client's stays open.
        let answer = format!(
            "HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: {}\r\n\r\n{path}",
            path.len()
        );
        server.send(answer).await;
        let head = client.head().await;
        assert_eq!(head.status(), 200);
        assert_eq!(client.body(&head).await, path.as_bytes());
        assert_ne!(
            head.get("connection"),
            Some("close"),
            "connection: close of the backend is not forwarded"
        );
    }
}

#[tokio::test]
async fn backend_connections_are_reused() {
    let (lockgate, backend) = start().await;
    let mut client = lockgate.request(get("/")).await;
    let mut server = backend.accept().await;
    let (requests, mut connections) = (20, 1);
    for _ in 0..requests {
        // A request that arrives before the last connection has returned to the pool opens another one.
        tokio::select! {
            _ = server.head() => {}
            mut another = backend.accept() => {
                another.head().await;
                (server, connections) = (another, connections + 1);
            }
        }
        server.send("HTTP/1.1 204 No Content\r\n\r\n").await;
        assert_eq!(client.head().await.status(), 204);
        client.send(get("/")).await;
    }
    assert!(
        connections <= requests * 3 / 4,
        "{connections} connections for {requests} requests"
    );
}

#[tokio::test]
async fn chunked_upload_is_streamed() {
    let (lockgate, backend) = start().await;
    let mut client = lockgate
        .request("POST /up HTTP/1.1\r\nHost: a.test\r\nTransfer-Encoding: chunked\r\n\r\n")
        .await;
    client.send("5\r\nfirst\r\n").await;
    let mut server = backend.accept().await;
    assert_eq!(
        server.head().await.get("transfer-encoding"),
        Some("chunked")
    );
    assert_eq!(server.chunk().await, b"first");
    // The rest is sent only after the first chunk has arrived.
    client.send("6\r\nsecond\r\n0\r\n\r\n").await;
    assert_eq!(server.chunk().await, b"second");
    assert_eq!(server.chunk().await, b"");
    server
        .send("HTTP/1.1 201 Created\r\nContent-Length: 0\r\n\r\n")
        .await;
    assert_eq!(client.head().await.status(), 201);
}

#[tokio::test]
async fn upload_with_content_length_keeps_it() {
    let (lockgate, backend) = start().await;
    let mut client = lockgate
        .request("PUT /up HTTP/1.1\r\nHost: a.test\r\nContent-Length: 10\r\n\r\n01234")
        .await;
    let mut server = backend.accept().await;
    let seen = server.head().await;
    assert_eq!(
        (seen.get("content-length"), seen.get("transfer-encoding")),
        (Some("10"), None)
    );
    assert_eq!(server.exactly(5).await, b"01234");
    client.send("56789").await;
    assert_eq!(server.exactly(5).await, b"56789");
    server
        .send("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok")
        .await;
    let head = client.head().await;
    assert_eq!(client.body(&head).await, b"ok");
}

#[tokio::test]
async fn server_sent_events_arrive_one_by_one() {
    let (lockgate, backend) = start().await;
    let mut client = lockgate.request(get("/events")).await;
    let mut server = backend.accept().await;
    server.head().await;
    server.send("HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n").await;
    let head = client.head().await;
    assert_eq!(head.get("content-type"), Some("text/event-stream"));
    for number in 0..3 {
        let event = format!("data: {number}\n\n");
        server
            .send(format!("{:x}\r\n{event}\r\n", event.len()))
            .await;
        assert_eq!(client.chunk().await, event.as_bytes());
    }
    server.send("0\r\n\r\n").await;
    assert_eq!(client.chunk().await, b"");
}

#[tokio::test]
async fn malformed_chunk_is_a_400() {
    let (lockgate, backend) = start().await;
    for chunk in [
        "0x5\r\nfirst\r\n",
        "5\nfirst\n",
        "5;a=\n\r\nfirst\r\n",
        "zz\r\n",
    ] {
        let head = "POST /up HTTP/1.1\r\nHost: a.test\r\nTransfer-Encoding: chunked\r\n\r\n";
        let mut client = lockgate.request(format!("{head}{chunk}")).await;
        let mut server = backend.accept().await;
        assert_eq!(client.head().await.status(), 400, "{chunk:?}");
        // The backend must not receive a complete request.
        let end = server.end().await;
        assert!(!end.bytes.ends_with(b"0\r\n\r\n"), "{end:?}");
    }
}

#[tokio::test]
async fn client_that_leaves_a_long_poll_closes_the_backend_connection() {
    let (lockgate, backend) = start().await;
    let client = lockgate.request(get("/poll")).await;
    let mut server = backend.accept().await;
    server.head().await;
    drop(client);
    server.end().await;
}

#[tokio::test]
async fn reset_response_is_not_completed() {
    let (lockgate, backend) = start().await;
    let mut client = lockgate.request(get("/big")).await;
    let mut server = backend.accept().await;
    server.head().await;
    server
        .send("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n4\r\nhalf\r\n")
        .await;
    client.head().await;
    assert_eq!(client.chunk().await, b"half");
    server.reset();
    let end = client.end().await;
    assert!(end.bytes.is_empty(), "no last chunk: {:?}", end.bytes);
}

#[tokio::test]
async fn head_and_304_responses_have_no_body() {
    let (lockgate, backend) = start().await;
    let mut client = lockgate.connect().await;
    for (request, answer) in [
        (
            "HEAD / HTTP/1.1\r\nHost: a.test\r\n\r\n",
            "HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 1234\r\n\r\n",
        ),
        (
            "GET / HTTP/1.1\r\nHost: a.test\r\n\r\n",
            "HTTP/1.1 304 Not Modified\r\nConnection: close\r\nETag: \"x\"\r\n\r\n",
        ),
    ] {
        client.send(request).await;
        let mut server = backend.accept().await;
        assert_eq!(
            server.head().await.start,
            request.lines().next().unwrap_or_default()
        );
        server.send(answer).await;
        let head = client.head().await;
        assert!(answer.contains(&head.status().to_string()));
        assert!(
            head.status() == 304 || head.get("content-length") == Some("1234"),
            "{head:?}"
        );
    }
    // If one of the responses had a body, this response would be read as part of it.
    client.send(get("/after")).await;
    answer_ok(&mut backend.accept().await).await;
    assert_eq!(client.head().await.status(), 200);
}

#[tokio::test]
async fn expect_100_continue_is_answered() {
    let (lockgate, backend) = start().await;
    let mut client = lockgate
        .request(
            "POST / HTTP/1.1\r\nHost: a.test\r\nExpect: 100-continue\r\nContent-Length: 4\r\n\r\n",
        )
        .await;
    let mut server = backend.accept().await;
    let seen = server.head().await;
    if seen.get("expect").is_some() {
        server.send("HTTP/1.1 100 Continue\r\n\r\n").await;
    }
    assert_eq!(client.head().await.status(), 100);
    client.send("body").await;
    assert_eq!(server.exactly(4).await, b"body");
    server
        .send("HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n")
        .await;
    assert_eq!(client.head().await.status(), 200);
}

#[tokio::test]
async fn http_request_is_redirected_to_https() {
    let backend = Backend::listen().await;
    let setup = Lockgate::to(backend.address).server("http = [\"127.0.0.1:0\"]");
    let lockgate = setup.start().await;
    let http = crate::harness::listener(&lockgate.status().await, "http");
    let mut client = Wire::plain(
        tokio::net::TcpStream::connect(http)
            .await
            .expect("it listens"),
    );
    client.send(get("/page?x=1")).await;
    let head = client.head().await;
    assert!((300..400).contains(&head.status()), "{head:?}");
    let location = head.get("location").expect("where to");
    assert!(location.starts_with("https://a.test"), "{location}");
    assert!(location.ends_with("/page?x=1"), "{location}");
    assert!(backend.untouched());
}

#[tokio::test]
async fn connection_close_of_the_client_closes_the_connection() {
    let (lockgate, backend) = start().await;
    let mut client = lockgate
        .request("GET / HTTP/1.1\r\nHost: a.test\r\nConnection: close\r\n\r\n")
        .await;
    answer_ok(&mut backend.accept().await).await;
    let head = client.head().await;
    assert_eq!(head.status(), 200);
    assert_eq!(client.body(&head).await, b"ok");
    assert_eq!(client.end().await.kind, EndKind::Fin);
}

async fn start() -> (Lockgate, Backend) {
    let backend = Backend::listen().await;
    (Lockgate::to(backend.address).start().await, backend)
}

async fn answer_ok(server: &mut Wire) {
    server.head().await;
    server
        .send("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok")
        .await;
}

fn get(path: &str) -> String {
    format!("GET {path} HTTP/1.1\r\nHost: a.test\r\n\r\n")
}
