//! Metrics, readiness, health and access records.

use crate::harness::{Backend, Frame, Lockgate, Wire, eventually, handshake, listener, observe};
use rustix::process::Signal;
use std::net::SocketAddr;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
};

#[tokio::test]
async fn metrics_listener_serves_metrics_but_no_commands() {
    let lockgate = Lockgate::to(Backend::echo().await)
        .server("metrics = \"127.0.0.1:0\"")
        .start()
        .await;
    let metrics = listener(&lockgate.status().await, "metrics");
    let mut client = lockgate.upgrade("/?token=secret", "").await;
    assert_eq!(client.head().await.status(), 101);
    client.send_frame(Frame::text("hello")).await;
    assert_eq!(client.frame().await, Frame::text("hello"));
    let (status, text) = get(metrics, "/metrics").await;
    assert_eq!(status, 200);
    for line in [
        "lockgate_sessions 1",
        "lockgate_sessions_opened_total 1",
        "lockgate_handshake_seconds_count 1",
    ] {
        assert!(text.contains(line), "{line} is not in\n{text}");
    }
    client.send_frame(Frame::close(4001, "bye")).await;
    assert_eq!(client.frame().await.closes_with().0, 4001);
    client.end().await;
    lockgate.closed().await;
    for line in [
        "lockgate_sessions 0",
        "lockgate_session_closes_total{code=\"4xxx\",by=\"client\"} 1",
        "lockgate_messages_total{from=\"client\"} 1",
        "lockgate_messages_total{from=\"backend\"} 1",
    ] {
        eventually(line, async || {
            observe(get(metrics, "/metrics").await.1, |text| text.contains(line))
        })
        .await;
    }
    for (path, status) in [
        ("/healthz", 200),
        ("/readyz", 200),
        ("/status", 404),
        ("/", 404),
    ] {
        assert_eq!(get(metrics, path).await.0, status, "{path}");
    }
    let logged = format!("{}{:?}", lockgate.stderr(), lockgate.records());
    assert!(
        !logged.contains("secret"),
        "the query is in a log: {logged}"
    );
}

#[tokio::test]
async fn draining_process_is_healthy_but_not_ready() {
    let backend = Backend::listen().await;
    let mut lockgate = Lockgate::to(backend.address)
        .server("metrics = \"127.0.0.1:0\"")
        .start()
        .await;
    let metrics = listener(&lockgate.status().await, "metrics");
    // The Close is not answered, so that the process drains until close_timeout.
    let (mut client, mut server, _) = lockgate.session(&backend).await;
    lockgate.terminate();
    assert_eq!(client.frame().await.closes_with().0, 1001);
    assert_eq!(server.frame().await.closes_with().0, 1001);
    let (status, text) = get(metrics, "/readyz").await;
    assert!(
        status == 503 && text.contains("draining"),
        "{status} {text}"
    );
    assert_eq!(get(metrics, "/healthz").await.0, 200);
    lockgate.signal(Signal::TERM);
    assert_eq!(lockgate.exit().await, Some(0));
}

/// Status and body of a page.
async fn get(address: SocketAddr, path: &str) -> (u16, String) {
    let mut stream = TcpStream::connect(address).await.expect("it listens");
    let request =
        format!("GET {path} HTTP/1.1\r\nHost: prometheus.internal\r\nConnection: close\r\n\r\n");
    stream
        .write_all(request.as_bytes())
        .await
        .expect("it reads");
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await.expect("text");
    let status = answer
        .split(' ')
        .nth(1)
        .and_then(|status| status.parse().ok());
    (
        status.unwrap_or_else(|| panic!("no status: {answer}")),
        answer,
    )
}

#[tokio::test]
async fn client_that_leaves_before_the_response_is_logged_as_499() {
    let backend = Backend::listen().await;
    let lockgate = Lockgate::to(backend.address).start().await;
    let plain = "GET /plain HTTP/1.1\r\nHost: a.test\r\n\r\n";
    for (path, request) in [
        ("/plain", plain),
        ("/handshake", &handshake("/handshake", "")),
    ] {
        let client = lockgate.request(request).await;
        let mut server = backend.accept().await;
        server.head().await;
        drop(client);
        let left = |record: &serde_json::Value| {
            record["status"] == 499 && record["why"] == "client-left" && record["path"] == path
        };
        lockgate.record(left).await;
        server.end().await;
    }
    assert_eq!(lockgate.records().len(), 2);
    eventually("no session", async || {
        observe(lockgate.status().await, |status| status["sessions"] == 0)
    })
    .await;
}

#[tokio::test]
async fn http_listener_redirects_to_https_and_logs_it() {
    let backend = Backend::listen().await;
    let setup = Lockgate::to(backend.address).server("http = [\"127.0.0.1:0\"]");
    let lockgate = setup.start().await;
    let status = lockgate.status().await;
    let http = listener(&status, "http");
    for (host, location) in [
        // The client used Lockgate's own HTTP port: the redirect has the HTTPS port.
        (
            format!("a.test:{}", http.port()),
            format!("https://a.test:{}/x?q=1", lockgate.https.port()),
        ),
        // The client used no port, so that ports are mapped: the redirect has the default port.
        ("a.test".to_owned(), "https://a.test/x?q=1".to_owned()),
    ] {
        let stream = TcpStream::connect(http).await.expect("it listens");
        let mut client = Wire::plain(stream);
        client
            .send(format!("GET /x?q=1 HTTP/1.1\r\nHost: {host}\r\n\r\n"))
            .await;
        let head = client.head().await;
        assert_eq!(
            (head.status(), head.get("location")),
            (308, Some(&*location))
        );
        let redirected =
            |record: &serde_json::Value| record["status"] == 308 && record["host"] == *host;
        assert_eq!(lockgate.record(redirected).await["path"], "/x");
    }
    assert!(backend.untouched());
}

#[tokio::test]
async fn plain_http_on_the_tls_port_gets_400() {
    let lockgate = Lockgate::to(Backend::echo().await).start().await;
    let stream = TcpStream::connect(lockgate.https)
        .await
        .expect("it listens");
    let mut client = Wire::plain(stream);
    client.send(handshake("/", "")).await;
    assert_eq!(client.head().await.status(), 400);
    let end = client.end().await;
    assert!(
        String::from_utf8_lossy(&end.bytes).contains("wss://"),
        "{end:?}"
    );
}
