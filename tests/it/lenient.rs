//! Clients that cannot be changed: handshakes without `Connection`, Origins of another form, HTTP/1.0 without Host, and
//! clients of HTTP/1.1 that accept trailers.

use crate::harness::{Backend, Frame, Lockgate, Wire};

const KEY: &str = "Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: AAECAwQFBgcICQoLDA0ODw==\r\n";

/// Starts a Lockgate with these keys of its route.
async fn start(route: &str) -> (Lockgate, Backend) {
    let backend = Backend::listen().await;
    let lockgate = Lockgate::to(backend.address).with(route).start().await;
    (lockgate, backend)
}

fn get(fields: &str) -> String {
    format!("GET /ws HTTP/1.1\r\nHost: a.test\r\n{fields}\r\n")
}

/// Returns the status, the `why` of the record and the text of a refusal.
async fn refused(lockgate: &Lockgate, request: &str) -> (u16, String, String) {
    let mut client = lockgate.request(request).await;
    let head = client.head().await;
    let text = String::from_utf8(client.body(&head).await).expect("UTF-8");
    let record = lockgate
        .record(|record| record["event"] == "request" && !record["why"].is_null())
        .await;
    let why = record["why"].as_str().unwrap_or_default().to_owned();
    (head.status(), why, text)
}

#[tokio::test]
async fn handshake_without_one_of_its_headers_is_a_400_that_names_it() {
    for (fields, why, name) in [
        ("Upgrade: websocket\r\n", "missing-connection", "Connection"),
        (
            "Upgrade: WebSocket\r\nConnection: keep-alive\r\n",
            "missing-connection",
            "Connection",
        ),
        (
            "Connection: Upgrade\r\n",
            "missing-upgrade",
            "Upgrade: websocket",
        ),
        (
            "Connection: Upgrade\r\nUpgrade: h2c\r\n",
            "missing-upgrade",
            "Upgrade: websocket",
        ),
    ] {
        let (lockgate, backend) = start("").await;
        let (status, seen, text) = refused(&lockgate, &get(&format!("{fields}{KEY}"))).await;
        assert_eq!((status, &*seen), (400, why), "{fields}");
        assert!(text.contains(name), "{text}");
        assert!(backend.untouched());
    }
}

#[tokio::test]
async fn lenient_route_accepts_a_handshake_without_connection() {
    for fields in ["", "Connection: keep-alive\r\n", "Connection: close\r\n"] {
        let (lockgate, backend) = start("handshake = \"lenient\"").await;
        let mut client = lockgate
            .request(get(&format!("Upgrade: websocket\r\n{fields}{KEY}")))
            .await;
        let (mut server, request) = backend.accept_session().await;
        assert_eq!(request.get("connection"), Some("Upgrade"));
        assert_eq!(request.get("upgrade"), Some("websocket"));
        let head = client.head().await;
        assert_eq!(head.status(), 101);
        let connection = head.get("connection").expect("a field");
        assert!(connection.starts_with("Upgrade"), "{connection}");
        client.send_frame(Frame::text("hello")).await;
        assert_eq!(server.frame().await.payload, b"hello");
        server.send_frame(Frame::text("back")).await;
        assert_eq!(client.text().await, "back");
    }
    // The other rules stay.
    let (lockgate, _backend) = start("handshake = \"lenient\"").await;
    let without_upgrade = get(&format!("Connection: Upgrade\r\n{KEY}"));
    assert_eq!(
        refused(&lockgate, &without_upgrade).await.1,
        "missing-upgrade"
    );
    let (lockgate, _backend) = start("handshake = \"lenient\"").await;
    let version = KEY.replace("13", "8");
    let old = get(&format!("Upgrade: websocket\r\n{version}"));
    assert_eq!(refused(&lockgate, &old).await.1, "wrong-version");
}

#[tokio::test]
async fn upgrade_without_a_key_stays_a_plain_request() {
    let (lockgate, backend) = start("").await;
    let mut client = lockgate.request(get("Upgrade: websocket\r\n")).await;
    let mut server = backend.accept().await;
    assert_eq!(server.head().await.get("upgrade"), None);
    server.send("HTTP/1.1 204 No Content\r\n\r\n").await;
    assert_eq!(client.head().await.status(), 204);
}

#[tokio::test]
async fn origin_of_another_form_is_allowed_literally_if_listed() {
    for (listed, origin, admitted) in [
        ("file://", "file://", true),
        ("null", "null", true),
        ("my-device", "my-device", true),
        ("192.0.2.7", "192.0.2.7", true),
        ("Charger 12", "Charger 12", true),
        ("app://-/index.html", "app://-/index.html", true),
        ("urn:device:7", "urn:device:7", true),
        ("file://", "null", false),
        ("null", "https://null", false),
        ("my-device", "My-Device", false),
        ("my-device", "my-device2", false),
        ("my-device", "https://my-device", true),
        ("https://a.test", "null", false),
    ] {
        let backend = Backend::echo().await;
        let config = format!(
            "[server]\nhttps = [\"127.0.0.1:0\"]\nhttp = []\n[tls]\ndev_ca = true\n\
             [[routes]]\nhosts = [\"a.test\"]\nto = \"ws://{backend}\"\norigins = [\"{listed}\"]\n"
        );
        let lockgate = Lockgate::with_file(&config).start().await;
        let mut client = lockgate
            .upgrade("/", &format!("Origin: {origin}\r\n"))
            .await;
        let expected = if admitted { 101 } else { 403 };
        assert_eq!(client.head().await.status(), expected, "{listed}: {origin}");
    }
}

#[tokio::test]
async fn http_1_0_without_host_is_served_by_a_route_for_every_host() {
    for (hosts, status) in [("*", 200), ("a.test", 400)] {
        let backend = Backend::listen().await;
        let config = format!(
            "[server]\nhttps = [\"127.0.0.1:0\"]\nhttp = []\n[tls]\ndev_ca = true\n\
             [[routes]]\nhosts = [\"{hosts}\"]\nto = \"ws://{}\"\norigins = [\"*\"]\n",
            backend.address
        );
        let lockgate = Lockgate::with_file(&config).start().await;
        let name = if hosts == "*" { "localhost" } else { "a.test" };
        let mut client: Wire = lockgate.connect_as(name).await;
        client.send("GET /old HTTP/1.0\r\n\r\n").await;
        if status == 200 {
            let mut server = backend.accept().await;
            let head = server.head().await;
            assert_eq!(head.start, "GET /old HTTP/1.1");
            // The address to which the client has connected.
            let local = lockgate.https.to_string();
            assert_eq!(head.all("host"), [&*local]);
            assert_eq!(head.get("x-forwarded-host"), Some(&*local));
            server
                .send("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok")
                .await;
        }
        assert_eq!(client.head().await.status(), status, "{hosts}");
    }
    // HTTP/1.1 requires one.
    let (lockgate, _backend) = start("").await;
    let (status, why, _) = refused(&lockgate, "GET / HTTP/1.1\r\n\r\n").await;
    assert_eq!((status, &*why), (400, "host"));
}

const TRAILERS: &str = "HTTP/1.1 200 OK\r\nConnection: close\r\nTrailer: X-Sum, Set-Cookie, X-Other\r\nTransfer-Encoding: chunked\r\n\r\n\
                        2\r\nok\r\n0\r\nX-Sum: 7\r\nSet-Cookie: a=b\r\nX-Unannounced: 1\r\n\r\n";

#[tokio::test]
async fn announced_trailers_are_relayed_over_http_1_1_to_a_client_that_accepts_them() {
    for (fields, trailers, announced) in [
        ("TE: trailers\r\n", "x-sum: 7\r\n", Some("x-sum, x-other")),
        (
            "TE: gzip, Trailers\r\nConnection: TE\r\n",
            "x-sum: 7\r\n",
            Some("x-sum, x-other"),
        ),
        ("", "", None),
    ] {
        let (lockgate, backend) = start("").await;
        let mut client = lockgate.request(get(fields)).await;
        let mut server = backend.accept().await;
        server.head().await;
        server.send(TRAILERS).await;
        let head = client.head().await;
        assert_eq!(head.get("trailer"), announced, "{fields}");
        assert_eq!(client.exactly(5).await, b"2\r\nok");
        assert_eq!(client.line().await, "");
        assert_eq!(client.line().await, "0");
        let mut seen = String::new();
        loop {
            match client.line().await.to_lowercase() {
                line if line.is_empty() => break,
                line => seen += &format!("{line}\r\n"),
            }
        }
        assert_eq!(seen, trailers, "{fields}");
        // The connection is in order.
        client.send(get("")).await;
        let mut server = backend.accept().await;
        server.head().await;
        server.send("HTTP/1.1 204 No Content\r\n\r\n").await;
        assert_eq!(client.head().await.status(), 204);
    }
}
