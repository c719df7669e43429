//! Behind a proxy that terminates TLS: `server.cleartext`, and its requests on `server.http`; listeners without IPv6.

use crate::harness::{
    Backend, Frame, Head, Lockgate, Wire, eventually, handshake, listener, observe,
};
use std::net::SocketAddr;
use tokio::net::TcpStream;

const TRUSTED: &str = "cleartext = [\"127.0.0.1:0\"]\ntrusted_proxies = [\"127.0.0.0/8\"]";

async fn connect(lockgate: &Lockgate) -> Wire {
    let address = listener(&lockgate.status().await, "cleartext");
    Wire::stream(TcpStream::connect(address).await.expect("it listens"))
}

/// Sends a plain request, and returns its head as the backend receives it.
async fn seen(lockgate: &Lockgate, backend: &Backend, headers: &str) -> Head {
    let mut client = connect(lockgate).await;
    client
        .send(format!("GET /x HTTP/1.1\r\nHost: a.test\r\n{headers}\r\n"))
        .await;
    let mut server = backend.accept().await;
    let head = server.head().await;
    server.send("HTTP/1.1 204 No Content\r\n\r\n").await;
    assert_eq!(client.head().await.status(), 204);
    head
}

#[tokio::test]
async fn cleartext_listener_serves_sessions_and_requests_of_a_trusted_proxy() {
    let backend = Backend::listen().await;
    let lockgate = Lockgate::to(backend.address).server(TRUSTED).start().await;
    for (headers, proto, scheme) in [
        (
            "X-Forwarded-Proto: https\r\nX-Forwarded-For: 203.0.113.7\r\n",
            "https",
            "https",
        ),
        (
            "X-Forwarded-Proto: http\r\nX-Forwarded-For: 203.0.113.7\r\n",
            "http",
            "http",
        ),
        (
            "Forwarded: for=203.0.113.7;proto=https\r\n",
            "https",
            "https",
        ),
        ("", "http", "http"),
    ] {
        let head = seen(&lockgate, &backend, headers).await;
        assert_eq!(head.all("x-forwarded-proto"), [proto], "{headers}");
        let forwarded = head.get("forwarded").expect("set");
        assert!(
            forwarded.ends_with(&format!("proto={scheme}")),
            "{headers}: {forwarded}"
        );
        if headers.contains("203.0.113.7") {
            assert_eq!(head.get("x-real-ip"), Some("203.0.113.7"), "{headers}");
        }
    }
    let mut client = connect(&lockgate).await;
    let mut request = handshake(
        "/",
        "X-Forwarded-Proto: https\r\nX-Forwarded-For: 203.0.113.7\r\n",
    )
    .into_bytes();
    // A frame that arrives with the handshake.
    request.extend(Frame::text("early").masked().encode());
    client.send(request).await;
    let mut server = backend.accept().await;
    let head = server.head().await;
    assert_eq!(head.all("x-forwarded-proto"), ["https"]);
    server
        .send(crate::harness::switching_protocols(&head, ""))
        .await;
    assert_eq!(client.head().await.status(), 101);
    assert_eq!(server.frame().await.payload, b"early");
    for _ in 0..3 {
        client.send_frame(Frame::text("to the backend")).await;
        assert_eq!(server.frame().await.payload, b"to the backend");
        server.send_frame(Frame::binary(&[7; 100_000])).await;
        assert_eq!(client.frame().await.payload.len(), 100_000);
    }
    server.send_frame(Frame::close(4000, "bye")).await;
    assert_eq!(client.frame().await.closes_with(), (4000, "bye"));
    client.send_frame(Frame::close(4000, "")).await;
    let record = lockgate.closed().await;
    assert_eq!(record["client"], "203.0.113.7", "{record}");
}

#[tokio::test]
async fn cleartext_listener_compresses_and_closes_on_shutdown() {
    let backend = Backend::echo().await;
    let setup = Lockgate::to(backend).server(TRUSTED);
    let mut lockgate = setup.start().await;
    let mut client = connect(&lockgate).await;
    client
        .send(handshake("/", "X-Forwarded-Proto: https\r\n"))
        .await;
    assert_eq!(client.head().await.status(), 101);
    client.echoes().await;
    lockgate.terminate();
    assert_eq!(client.frame().await.closes_with().0, 1001);
    client.send_frame(Frame::close(1001, "")).await;
    assert_eq!(lockgate.exit().await, Some(0));
}

#[tokio::test]
async fn cleartext_listener_closes_connections_of_other_peers() {
    let backend = Backend::listen().await;
    let server = "cleartext = [\"127.0.0.1:0\"]\ntrusted_proxies = [\"192.0.2.0/24\"]";
    let lockgate = Lockgate::to(backend.address).server(server).start().await;
    let mut client = connect(&lockgate).await;
    client
        .send("GET / HTTP/1.1\r\nHost: a.test\r\nX-Forwarded-For: 192.0.2.1\r\n\r\n")
        .await;
    let end = client.end().await;
    assert!(end.bytes.is_empty(), "{end:?}");
    assert!(backend.untouched());
    let rejected = "lockgate_connection_failures_total{why=\"untrusted-proxy\"}";
    lockgate.until_metric(rejected, 1.0).await;
}

#[tokio::test]
async fn route_with_client_certificates_refuses_cleartext_requests() {
    let backend = Backend::listen().await;
    for value in ["require", "optional"] {
        let config = format!(
            "[server]\nhttps = [\"127.0.0.1:0\"]\nhttp = []\n{TRUSTED}\n[tls]\ndev_ca = true\nclient_ca = \"ca.pem\"\n\
             [[routes]]\nhosts = [\"a.test\"]\nto = \"ws://{}\"\norigins = [\"*\"]\nclient_cert = \"{value}\"\n",
            backend.address
        );
        let folder = tempfile::TempDir::new().expect("a temporary folder");
        let output = Lockgate::run(folder.path(), &["cert", "ca"]).await;
        let ca = String::from_utf8_lossy(&output.stdout).trim().to_owned();
        let lockgate = Lockgate::with_file(&config.replace("ca.pem", &ca))
            .start()
            .await;
        let mut client = connect(&lockgate).await;
        client
            .send(handshake("/", "X-Forwarded-Proto: https\r\n"))
            .await;
        assert_eq!(client.head().await.status(), 403);
        let record = lockgate.record(|record| record["status"] == 403).await;
        assert_eq!(record["why"], "client-cert", "{record}");
    }
    assert!(backend.untouched());
}

#[tokio::test]
async fn cleartext_listener_alone_needs_no_certificate() {
    let backend = Backend::listen().await;
    let config = format!(
        "[server]\nhttps = []\nhttp = []\n{TRUSTED}\n[[routes]]\nhosts = [\"a.test\"]\nto = \"ws://{}\"\norigins = [\"*\"]\n",
        backend.address
    );
    let folder = tempfile::TempDir::new().expect("a temporary folder");
    std::fs::write(folder.path().join("lockgate.toml"), &config).expect("ours");
    let output = Lockgate::run(folder.path(), &["check", "--config", "lockgate.toml"]).await;
    assert!(output.status.success(), "{output:?}");
    // Without trusted proxies it would accept no connection.
    let text = config.replace("trusted_proxies", "#");
    std::fs::write(folder.path().join("lockgate.toml"), text).expect("ours");
    let output = Lockgate::run(folder.path(), &["check", "--config", "lockgate.toml"]).await;
    let stderr = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(
        output.status.code() == Some(64) && stderr.contains("trusted_proxies"),
        "{stderr}"
    );
}

#[tokio::test]
async fn request_that_a_proxy_marked_as_https_is_not_redirected() {
    let lockgate = Lockgate::to(Backend::echo().await)
        .server("http = [\"127.0.0.1:0\"]")
        .start()
        .await;
    let address: SocketAddr = listener(&lockgate.status().await, "http");
    for (headers, status) in [
        ("", 308),
        ("X-Forwarded-Proto: http\r\n", 308),
        ("X-Forwarded-Proto: https\r\n", 400),
        ("X-Forwarded-Proto: HTTPS\r\n", 400),
        ("X-Forwarded-Proto: wss\r\n", 400),
        ("Forwarded: for=192.0.2.1;proto=https\r\n", 400),
    ] {
        let mut client = Wire::plain(TcpStream::connect(address).await.expect("it listens"));
        client
            .send(format!("GET / HTTP/1.1\r\nHost: a.test\r\n{headers}\r\n"))
            .await;
        let head = client.head().await;
        assert_eq!(head.status(), status, "{headers}");
        if status == 400 {
            let body = client.body(&head).await;
            let body = String::from_utf8_lossy(&body);
            assert!(body.contains("server.cleartext"), "{body}");
        }
    }
    let record = lockgate.record(|record| record["status"] == 400).await;
    assert_eq!(record["why"], "forwarded-proto", "{record}");
}

#[tokio::test]
async fn added_cleartext_listener_is_opened_by_a_reload() {
    let backend = Backend::echo().await;
    let config = |server: &str| {
        format!(
            "[server]\nhttps = [\"127.0.0.1:0\"]\nhttp = []\n{server}\n[tls]\ndev_ca = true\n\
             [[routes]]\nhosts = [\"a.test\"]\nto = \"ws://{backend}\"\norigins = [\"*\"]\n"
        )
    };
    let lockgate = Lockgate::with_file(&config("")).start().await;
    lockgate.write_config(&config(TRUSTED));
    eventually("the listener", async || {
        let status = lockgate.status().await;
        observe(status, |status| {
            status["listeners"].to_string().contains("cleartext")
        })
    })
    .await;
    let mut client = connect(&lockgate).await;
    client
        .send(handshake("/", "X-Forwarded-Proto: https\r\n"))
        .await;
    assert_eq!(client.head().await.status(), 101);
    client.echoes().await;
}

#[tokio::test]
async fn unspecified_addresses_fall_back_to_ipv4_where_ipv6_is_off() {
    let port = crate::harness::free_port();
    let config = format!(
        "[server]\nhttps = [\"[::]:0\"]\nhttp = [\"[::]:0\"]\nmetrics = \"[::]:{port}\"\n[tls]\ndev_ca = true\n\
         [[routes]]\nhosts = [\"a.test\"]\nto = \"ws://{}\"\norigins = [\"*\"]\n",
        Backend::echo().await
    );
    let lockgate = Lockgate::with_file(&config).without_ipv6().start().await;
    let status = lockgate.status().await;
    for kind in ["https", "http", "metrics"] {
        assert!(listener(&status, kind).ip().is_unspecified(), "{status}");
        assert!(listener(&status, kind).is_ipv4(), "{status}");
    }
    let mut client = Wire::plain(
        TcpStream::connect(("127.0.0.1", port))
            .await
            .expect("it listens"),
    );
    client
        .send("GET /healthz HTTP/1.1\r\nHost: localhost\r\n\r\n")
        .await;
    assert_eq!(client.head().await.status(), 200);
}
