//! Session resumption, and connections after a refusal.

use super::{
    client::{Client, Presents},
    fixture::MtlsFixture,
    request::{End, Spelling, send},
};
use crate::harness::{H2, Wire, request};
use rustls::HandshakeKind;

#[tokio::test]
async fn resumed_session_keeps_its_client_certificate() {
    let fixture = MtlsFixture::new("", "").await;
    let own = fixture.pki.own();
    let full = HandshakeKind::Full;
    for (h2, tls12) in [(false, false), (true, false), (false, true), (true, true)] {
        for (presents, first, then, kind, status, certificate) in [
            (
                Presents::Own,
                "secret.test",
                "secret.test",
                HandshakeKind::Resumed,
                200,
                Some(own),
            ),
            (
                Presents::Nothing,
                "secret.test",
                "secret.test",
                HandshakeKind::Resumed,
                403,
                None,
            ),
            (
                Presents::Nothing,
                "open.test",
                "open.test",
                HandshakeKind::Resumed,
                200,
                None,
            ),
            // A ticket of a host with another requirement is not accepted: a full handshake follows.
            (
                Presents::Nothing,
                "open.test",
                "secret.test",
                full,
                403,
                None,
            ),
            (
                Presents::Own,
                "open.test",
                "secret.test",
                full,
                200,
                Some(own),
            ),
            (Presents::Own, "secret.test", "open.test", full, 200, None),
        ] {
            let client = |sni| Client {
                tls12,
                ..Client::of(sni, presents, h2)
            };
            let case = format!("{presents:?}, {first} then {then}, h2 {h2}, TLS 1.2 {tls12}");
            let config = fixture.config(client(first));
            let to = fixture.lockgate.https;
            let spelling = Spelling::of(first, h2);
            let (_, first_kind) = send(client(first), &config, to, &spelling, false).await;
            assert_eq!(first_kind, Some(full), "{case}");
            let before = fixture.received();
            let spelling = Spelling::of(then, h2);
            let (end, found) = send(client(then), &config, to, &spelling, false).await;
            assert_eq!((end, found), (End::Status(status), Some(kind)), "{case}");
            match status {
                200 => fixture
                    .check_forwarded(before, certificate)
                    .unwrap_or_else(|it| panic!("{case}: {it}")),
                _ => assert_eq!(fixture.received(), before, "{case}"),
            }
        }
    }
}

/// RFC 9110 §15.5.20: a 421 refuses the request, not the connection.
#[tokio::test]
async fn misdirected_request_keeps_the_connection_open() {
    let fixture = MtlsFixture::new("", "").await;
    let client = |h2| Client::of("open.test", Presents::Own, h2);
    let to = fixture.lockgate.https;
    let hosts = [("open.test", 200), ("secret.test", 421), ("open.test", 200)];

    let stream = client(false)
        .connect(&fixture.config(client(false)), to)
        .await;
    let mut wire = Wire::tls(stream.expect("it lets us in"));
    for (host, status) in hosts {
        let get = format!("GET / HTTP/1.1\r\nHost: {host}\r\n\r\n");
        wire.send(get).await;
        let head = wire.head().await;
        assert_eq!(head.status(), status, "{host}");
        let body = wire.body(&head).await;
        assert_eq!(
            String::from_utf8_lossy(&body).contains("client_cert"),
            status == 421
        );
    }

    let stream = client(true)
        .connect(&fixture.config(client(true)), to)
        .await;
    let mut h2 = H2::over(stream.expect("it lets us in")).await;
    for (host, status) in hosts {
        let mut h2_request = request("GET", "/");
        *h2_request.uri_mut() = format!("https://{host}/").parse().expect("a URL");
        assert_eq!(h2.send(h2_request).await.status(), status, "{host}");
    }
    assert_eq!(fixture.received(), 4, "{:?}", fixture.since(0));
}
