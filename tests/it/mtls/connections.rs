//! What one connection is good for after another, and after a refusal.

use super::{
    client::{Client, Shows},
    fixture::Site,
    request::{End, Spelling, ask},
};
use crate::harness::{H2, Wire, request};
use rustls::HandshakeKind;

#[tokio::test]
async fn a_ticket_keeps_who_came_and_nothing_else() {
    let site = Site::new("", "").await;
    let own = site.pki.own();
    let full = HandshakeKind::Full;
    for (h2, old) in [(false, false), (true, false), (false, true), (true, true)] {
        for (shows, first, then, kind, status, certificate) in [
            (
                Shows::Own,
                "secret.test",
                "secret.test",
                HandshakeKind::Resumed,
                200,
                Some(own),
            ),
            (
                Shows::Nothing,
                "secret.test",
                "secret.test",
                HandshakeKind::Resumed,
                403,
                None,
            ),
            (
                Shows::Nothing,
                "open.test",
                "open.test",
                HandshakeKind::Resumed,
                200,
                None,
            ),
            // A ticket of the other kind is worth nothing: the client is asked.
            (Shows::Nothing, "open.test", "secret.test", full, 403, None),
            (Shows::Own, "open.test", "secret.test", full, 200, Some(own)),
            (Shows::Own, "secret.test", "open.test", full, 200, None),
        ] {
            let client = |sni| Client {
                old,
                ..Client::of(sni, shows, h2)
            };
            let of = format!("{shows:?}, {first} then {then}, h2 {h2}, TLS 1.2 {old}");
            let config = site.config(client(first));
            let to = site.lockgate.https;
            let spelling = Spelling::of(first, h2);
            let (_, kind_of_first) = ask(client(first), &config, to, &spelling, false).await;
            assert_eq!(kind_of_first, Some(full), "{of}");
            let before = site.seen();
            let spelling = Spelling::of(then, h2);
            let (end, found) = ask(client(then), &config, to, &spelling, false).await;
            assert_eq!((end, found), (End::Status(status), Some(kind)), "{of}");
            match status {
                200 => site
                    .told(before, certificate)
                    .unwrap_or_else(|it| panic!("{of}: {it}")),
                _ => assert_eq!(site.seen(), before, "{of}"),
            }
        }
    }
}

/// RFC 9110 §15.5.20: the client may use the connection for what it was opened for.
#[tokio::test]
async fn a_misdirected_request_closes_nothing() {
    let site = Site::new("", "").await;
    let client = |h2| Client::of("open.test", Shows::Own, h2);
    let to = site.lockgate.https;
    let hosts = [("open.test", 200), ("secret.test", 421), ("open.test", 200)];

    let stream = client(false).connect(&site.config(client(false)), to).await;
    let mut wire = Wire::tls(stream.expect("it lets us in"));
    for (host, status) in hosts {
        let asked = format!("GET / HTTP/1.1\r\nHost: {host}\r\n\r\n");
        wire.send(asked).await;
        let head = wire.head().await;
        assert_eq!(head.status(), status, "{host}");
        let told = wire.body(&head).await;
        assert_eq!(
            String::from_utf8_lossy(&told).contains("client_cert"),
            status == 421
        );
    }

    let stream = client(true).connect(&site.config(client(true)), to).await;
    let mut h2 = H2::over(stream.expect("it lets us in")).await;
    for (host, status) in hosts {
        let mut asked = request("GET", "/");
        *asked.uri_mut() = format!("https://{host}/").parse().expect("a URL");
        assert_eq!(h2.send(asked).await.status(), status, "{host}");
    }
    assert_eq!(site.seen(), 4, "{:?}", site.since(0));
}
