//! Lockgate behind another proxy: PROXY headers, X-Forwarded-*, trusted proxies, and the prefix of a route.

use crate::harness::{Backend, Lockgate, Wire, handshake, listener};
use tokio::net::TcpStream;

const PROXY_V1: &[u8] = b"PROXY TCP4 203.0.113.7 192.0.2.1 51000 443\r\n";
/// The same in version 2: signature, PROXY over TCP4, twelve bytes of addresses.
const PROXY_V2: &[u8] =
    b"\r\n\r\n\0\r\nQUIT\n\x21\x11\x00\x0c\xcb\x00\x71\x07\xc0\x00\x02\x01\xc7\x38\x01\xbb";
/// The LOCAL command: a health check by the load balancer.
const LOCAL_V2: &[u8] = b"\r\n\r\n\0\r\nQUIT\n\x20\x00\x00\x00";

#[tokio::test]
async fn proxy_header_of_a_trusted_peer_sets_the_client_address() {
    let backend = Backend::listen().await;
    let setup = Lockgate::to(backend.address)
        .server("proxy_protocol = \"require\"\ntrusted_proxies = [\"127.0.0.0/8\"]");
    let lockgate = setup.start().await;
    for (pieces, client) in [
        (vec![PROXY_V1], "203.0.113.7"),
        (vec![&PROXY_V1[..9], &PROXY_V1[9..]], "203.0.113.7"),
        (vec![PROXY_V2], "203.0.113.7"),
        (
            vec![&PROXY_V2[..3], &PROXY_V2[3..20], &PROXY_V2[20..]],
            "203.0.113.7",
        ),
        (vec![LOCAL_V2], "127.0.0.1"),
    ] {
        let wire = lockgate
            .connect_behind(&pieces)
            .await
            .expect("it is trusted");
        let seen = forwarded_request(wire, &backend, "").await;
        assert_eq!(seen.all("x-forwarded-for"), [client], "{pieces:?}");
        assert_eq!(seen.all("x-real-ip"), [client]);
    }
}

#[tokio::test]
async fn connection_without_valid_proxy_header_is_closed() {
    let backend = Backend::listen().await;
    let require = "proxy_protocol = \"require\"\ntrusted_proxies = [\"127.0.0.0/8\"]";
    let lockgate = Lockgate::to(backend.address).server(require).start().await;
    for header in [
        &b""[..],
        b"GET / HTTP/1.1\r\n\r\n",
        b"PROXY TCP9 a b 1 2\r\n",
        b"PROXY TCP4 203.0.113.7\r\n",
        &[0x16, 3, 1],
    ] {
        assert!(
            lockgate.connect_behind(&[header]).await.is_err(),
            "{header:?}"
        );
    }
    let elsewhere = "proxy_protocol = \"require\"\ntrusted_proxies = [\"10.0.0.0/8\"]";
    let lockgate = Lockgate::to(backend.address)
        .server(elsewhere)
        .start()
        .await;
    assert!(
        lockgate.connect_behind(&[PROXY_V1]).await.is_err(),
        "this peer is not trusted"
    );
}

#[tokio::test]
async fn forwarded_headers_count_only_from_a_trusted_proxy() {
    let forged = "X-Forwarded-For: 198.51.100.9, 203.0.113.7\r\nX-Forwarded-Proto: http\r\nX-Forwarded-Host: b.test\r\n";
    let backend = Backend::listen().await;
    let trusting = Lockgate::to(backend.address)
        .server("trusted_proxies = [\"127.0.0.1\"]")
        .start()
        .await;
    let seen = forwarded_request(trusting.connect().await, &backend, forged).await;
    // The chain from the first untrusted address on; that client may have forged everything left of it.
    assert_eq!(seen.all("x-forwarded-for"), ["203.0.113.7, 127.0.0.1"]);
    assert_eq!(seen.all("x-real-ip"), ["203.0.113.7"]);
    assert_eq!(
        (seen.all("x-forwarded-proto"), seen.all("x-forwarded-host")),
        (vec!["http"], vec!["b.test"])
    );

    let plain = Lockgate::to(backend.address).start().await;
    let seen = forwarded_request(plain.connect().await, &backend, forged).await;
    assert_eq!(seen.all("x-forwarded-for"), ["127.0.0.1"]);
    assert_eq!(
        (seen.all("x-forwarded-proto"), seen.all("x-forwarded-host")),
        (vec!["https"], vec!["a.test"])
    );
}

#[tokio::test]
async fn allow_and_deny_use_the_forwarded_client_address() {
    let backend = Backend::listen().await;
    let setup = Lockgate::to(backend.address).with("deny = [\"203.0.113.0/24\"]");
    let lockgate = setup
        .server("trusted_proxies = [\"127.0.0.1\"]")
        .start()
        .await;
    let mut denied = lockgate
        .upgrade("/", "X-Forwarded-For: 203.0.113.7\r\n")
        .await;
    assert_eq!(denied.head().await.status(), 403);
    let seen = forwarded_request(
        lockgate.connect().await,
        &backend,
        "X-Forwarded-For: 198.51.100.9\r\n",
    )
    .await;
    assert_eq!(seen.all("x-real-ip"), ["198.51.100.9"]);
}

#[tokio::test]
async fn redirect_is_logged_with_the_forwarded_client_address() {
    let lockgate = Lockgate::to(Backend::echo().await)
        .server("http = [\"127.0.0.1:0\"]\ntrusted_proxies = [\"127.0.0.1\"]")
        .start()
        .await;
    let http = listener(&lockgate.status().await, "http");
    let stream = TcpStream::connect(http).await.expect("it listens");
    let mut client = Wire::stream(stream);
    client
        .send("GET /x HTTP/1.1\r\nHost: a.test\r\nX-Forwarded-For: 203.0.113.7\r\n\r\n")
        .await;
    assert_eq!(client.head().await.status() / 100, 3);
    let record = lockgate.record(|record| record["path"] == "/x").await;
    assert_eq!(record["client"], "203.0.113.7");
}

#[tokio::test]
async fn strip_prefix_and_framework_change_the_forwarded_request() {
    let backend = Backend::listen().await;
    let setup =
        Lockgate::to(backend.address).with("strip_prefix = \"/live\"\nframework = \"hypercorn\"");
    let lockgate = setup.start().await;
    let mut client = lockgate.connect().await;
    client
        .send(handshake(
            "/live/room%31?x=%2F",
            "X-Forwarded-Prefix: /forged\r\n",
        ))
        .await;
    let seen = backend.accept().await.head().await;
    assert_eq!(seen.start, "GET /room1?x=%2F HTTP/1.1");
    assert_eq!(seen.all("x-forwarded-prefix"), ["/live"]);
    assert_eq!(seen.all("x-forwarded-proto"), ["wss"]);
}

/// Returns the request that the backend receives from the handshake of this client.
async fn forwarded_request(
    mut client: Wire,
    backend: &Backend,
    more: &str,
) -> crate::harness::Head {
    client.send(handshake("/", more)).await;
    let (_server, head) = backend.accept_session().await;
    assert_eq!(client.head().await.status(), 101);
    head
}
