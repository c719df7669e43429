//! Client certificates: a route with `client_cert = "require"` is unreachable without one, with any spelling of its
//! host, over any connection; and the backend receives the certificate unchanged.
//!
//! A cell of the matrix is one connection and one request with its expected result; the backend must receive nothing.

mod client;
mod connections;
mod fixture;
mod matrix;
mod optional_cert;
mod removed_ca;
mod request;

use base64::{Engine, engine::general_purpose::STANDARD};
use client::{Client, Presents};
use fixture::MtlsFixture;
use request::{End, Spelling, connect_and_wait, send};

/// HTTP/1.1 and HTTP/2, plain requests and WebSocket handshakes.
fn every_kind() -> impl Iterator<Item = (bool, bool)> {
    [false, true]
        .into_iter()
        .flat_map(|h2| [(h2, false), (h2, true)])
}

/// The status of an accepted request of this kind.
fn accepted(h2: bool, websocket: bool) -> End {
    End::Status(if websocket && !h2 { 101 } else { 200 })
}

#[tokio::test]
async fn required_client_certificate_cannot_be_bypassed() {
    let fixture = MtlsFixture::new("", "").await;
    let mut faults = vec![];
    let cells = matrix::all();
    for cell in &cells {
        let (client, before) = (cell.client, fixture.received());
        let config = fixture.config(client);
        let to = fixture.lockgate.https;
        let end = match &cell.spelling {
            Some(spelling) => send(client, &config, to, spelling, cell.websocket).await.0,
            None => connect_and_wait(client, &config, to).await,
        };
        if end != cell.end {
            faults.push(format!("{cell}: {end:?}"));
        }
        // A refused request is never forwarded, and the backend records a request before it answers.
        for seen in fixture.since(before) {
            faults.push(format!("{cell}: the backend saw {}", seen.head.start));
        }
    }
    println!("client certificates: {} cells", cells.len());
    assert!(cells.len() >= 40);
    assert!(
        faults.is_empty(),
        "{} faults:\n{}",
        faults.len(),
        faults.join("\n")
    );
    // The same backend receives an authorized request.
    let client = Client::of("secret.test", Presents::Own, false);
    let end = fixture
        .send(client, &Spelling::of("secret.test", false), false)
        .await;
    assert_eq!(end, End::Status(200));
    assert_eq!(fixture.received(), 1, "{:?}", fixture.since(0));
    let stderr = fixture.lockgate.stderr();
    assert!(!stderr.contains("panicked"), "{stderr}");
}

#[tokio::test]
async fn client_certificate_is_accepted_and_forwarded_to_the_backend() {
    let fixture = MtlsFixture::new("", "").await;
    let own = fixture.pki.own();
    for (h2, websocket) in every_kind() {
        for (sni, host, presents, certificate) in [
            ("secret.test", "secret.test", Presents::Own, Some(own)),
            ("secret.test", "SECRET.test.:8443", Presents::Own, Some(own)),
            ("a.wild.test", "a.wild.test", Presents::Own, Some(own)),
            // All hosts use the same CA: a certificate presented to one of them counts for the others.
            ("a.wild.test", "secret.test", Presents::Own, Some(own)),
            ("maybe.test", "maybe.test", Presents::Own, Some(own)),
            ("maybe.test", "maybe.test", Presents::Nothing, None),
            // Hosts without client authentication forward no certificate.
            ("open.test", "open.test", Presents::Own, None),
            ("open.wild.test", "open.wild.test", Presents::Own, None),
            ("open.wild.test", "open.wild.test", Presents::Nothing, None),
        ] {
            for forged in [false, true] {
                let mut spelling = Spelling::of(host, h2);
                if forged {
                    spelling = spelling
                        .with("client-cert", ":AAAA:")
                        .with("client-cert", ":AAAB:")
                        .with("client-cert-chain", ":AAAA:, :AAAB:");
                    if !h2 && !websocket {
                        spelling = spelling.with("connection", "client-cert");
                    }
                }
                let before = fixture.received();
                let client = Client::of(sni, presents, h2);
                let end = fixture.send(client, &spelling, websocket).await;
                let case =
                    format!("{sni} {host} {presents:?} h2 {h2} websocket {websocket} {forged}");
                assert_eq!(end, accepted(h2, websocket), "{case}");
                fixture
                    .check_forwarded(before, certificate)
                    .unwrap_or_else(|faults| panic!("{case}: {faults}"));
            }
        }
        // A route without client authentication on a host that requests certificates.
        let before = fixture.received();
        let client = Client::of("secret.test", Presents::Nothing, h2);
        let spelling = Spelling::of("secret.test", h2).target("/public/x");
        let end = fixture.send(client, &spelling, websocket).await;
        assert_eq!(end, accepted(h2, websocket));
        fixture
            .check_forwarded(before, None)
            .expect("no certificate");
    }
}

/// A client of an address sends no SNI: if one route of an address requires a certificate, it is requested from all.
#[tokio::test]
async fn client_without_sni_is_authenticated_by_the_route_of_the_address() {
    let fixture = MtlsFixture::new("", "hosts = [\"127.0.0.1\"]\nclient_cert = \"require\"").await;
    let own = fixture.pki.own();
    for (h2, websocket) in every_kind() {
        for (presents, host, end, certificate) in [
            (Presents::Nothing, "127.0.0.1", End::Status(403), None),
            (
                Presents::Own,
                "127.0.0.1",
                accepted(h2, websocket),
                Some(own),
            ),
            (Presents::Nothing, "secret.test", End::Status(403), None),
            (Presents::Nothing, "open.test", End::Status(421), None),
        ] {
            let before = fixture.received();
            let client = Client::of("127.0.0.1", presents, h2);
            let found = fixture
                .send(client, &Spelling::of(host, h2), websocket)
                .await;
            assert_eq!(found, end, "{presents:?} {host}");
            match certificate {
                Some(_) => fixture
                    .check_forwarded(before, certificate)
                    .expect("its certificate"),
                None => assert_eq!(fixture.received(), before, "{presents:?} {host}"),
            }
        }
    }
}

/// The Client-Cert header of a trusted proxy counts only on hosts without client authentication.
#[tokio::test]
async fn client_cert_of_a_trusted_proxy_counts_only_without_client_auth() {
    let fixture = MtlsFixture::new("trusted_proxies = [\"127.0.0.0/8\"]", "").await;
    for (h2, websocket) in every_kind() {
        for (host, certificate, chain) in [
            ("open.test", Some(&[0; 3][..]), &[":AAAB:"][..]),
            ("secret.test", Some(fixture.pki.own()), &[]),
            ("maybe.test", None, &[]),
        ] {
            let presents = match host {
                "secret.test" => Presents::Own,
                _ => Presents::Nothing,
            };
            let spelling = Spelling::of(host, h2)
                .with("client-cert", ":AAAA:")
                .with("client-cert-chain", ":AAAB:");
            let before = fixture.received();
            let end = fixture
                .send(Client::of(host, presents, h2), &spelling, websocket)
                .await;
            assert_eq!(end, accepted(h2, websocket), "{host}");
            let seen = fixture.since(before);
            let expected: Vec<String> = certificate
                .map(|it| format!(":{}:", STANDARD.encode(it)))
                .into_iter()
                .collect();
            assert_eq!(seen[0].head.all("client-cert"), expected, "{host}");
            assert_eq!(seen[0].head.all("client-cert-chain"), chain, "{host}");
        }
    }
}

#[tokio::test]
async fn client_cert_refusals_are_logged_with_their_why() {
    let fixture = MtlsFixture::new("", "").await;
    for (sni, why) in [("secret.test", "client-cert"), ("open.test", "misdirected")] {
        let client = Client::of(sni, Presents::Nothing, false);
        fixture
            .send(client, &Spelling::of("secret.test", false), true)
            .await;
        fixture.lockgate.record(|record| record["why"] == why).await;
    }
}
