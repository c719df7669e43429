//! Client certificates: a route with `client_cert = "require"` is unreachable without one, with any spelling of its
//! host, over any connection; and the backend receives the certificate unchanged.
//!
//! A cell of the table is one connection and one request. It holds the result, and the backend must have received nothing.

mod client;
mod connections;
mod fixture;
mod matrix;
mod optional_cert;
mod request;

use base64::{Engine, engine::general_purpose::STANDARD};
use client::{Client, Shows};
use fixture::Site;
use request::{End, Spelling, ask, knock};

/// HTTP/1.1 and HTTP/2, plain requests and WebSocket handshakes.
fn every_kind() -> impl Iterator<Item = (bool, bool)> {
    [false, true]
        .into_iter()
        .flat_map(|h2| [(h2, false), (h2, true)])
}

/// What a request of this kind is answered if it passes.
fn passed(h2: bool, websocket: bool) -> End {
    End::Status(if websocket && !h2 { 101 } else { 200 })
}

#[tokio::test]
async fn required_client_certificate_cannot_be_bypassed() {
    let site = Site::new("", "").await;
    let mut wrong = vec![];
    let cells = matrix::all();
    for cell in &cells {
        let (client, before) = (cell.client, site.seen());
        let config = site.config(client);
        let to = site.lockgate.https;
        let end = match &cell.spelling {
            Some(spelling) => ask(client, &config, to, spelling, cell.websocket).await.0,
            None => knock(client, &config, to).await,
        };
        if end != cell.end {
            wrong.push(format!("{cell}: {end:?}"));
        }
        // What is refused is never on its way, and what passes is written down before it is answered.
        for seen in site.since(before) {
            wrong.push(format!("{cell}: the backend saw {}", seen.head.start));
        }
    }
    println!("clients' certificates: {} cells", cells.len());
    assert!(cells.len() >= 40);
    assert!(
        wrong.is_empty(),
        "{} wrong:\n{}",
        wrong.len(),
        wrong.join("\n")
    );
    // The same backend does see who may pass.
    let client = Client::of("secret.test", Shows::Own, false);
    let end = site
        .ask(client, &Spelling::of("secret.test", false), false)
        .await;
    assert_eq!(end, End::Status(200));
    assert_eq!(site.seen(), 1, "{:?}", site.since(0));
    let stderr = site.lockgate.stderr();
    assert!(!stderr.contains("panicked"), "{stderr}");
}

#[tokio::test]
async fn client_certificate_is_accepted_and_forwarded_to_the_backend() {
    let site = Site::new("", "").await;
    let own = site.pki.own();
    for (h2, websocket) in every_kind() {
        for (sni, host, shows, certificate) in [
            ("secret.test", "secret.test", Shows::Own, Some(own)),
            ("secret.test", "SECRET.test.:8443", Shows::Own, Some(own)),
            ("a.wild.test", "a.wild.test", Shows::Own, Some(own)),
            // One CA for all: who has shown a certificate to one host has shown it to all that ask.
            ("a.wild.test", "secret.test", Shows::Own, Some(own)),
            ("maybe.test", "maybe.test", Shows::Own, Some(own)),
            ("maybe.test", "maybe.test", Shows::Nothing, None),
            // Where no certificate counts none is told.
            ("open.test", "open.test", Shows::Own, None),
            ("open.wild.test", "open.wild.test", Shows::Own, None),
            ("open.wild.test", "open.wild.test", Shows::Nothing, None),
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
                let before = site.seen();
                let client = Client::of(sni, shows, h2);
                let end = site.ask(client, &spelling, websocket).await;
                let of = format!("{sni} {host} {shows:?} h2 {h2} websocket {websocket} {forged}");
                assert_eq!(end, passed(h2, websocket), "{of}");
                site.told(before, certificate)
                    .unwrap_or_else(|wrong| panic!("{of}: {wrong}"));
            }
        }
        // A path of its own, without a certificate, on a host that asks.
        let before = site.seen();
        let client = Client::of("secret.test", Shows::Nothing, h2);
        let spelling = Spelling::of("secret.test", h2).target("/public/x");
        let end = site.ask(client, &spelling, websocket).await;
        assert_eq!(end, passed(h2, websocket));
        site.told(before, None).expect("no certificate");
    }
}

/// Who dials an address sends no name: if one of the routes for addresses asks, all are asked.
#[tokio::test]
async fn an_address_asks_who_sends_no_name() {
    let site = Site::new("", "hosts = [\"127.0.0.1\"]\nclient_cert = \"require\"").await;
    let own = site.pki.own();
    for (h2, websocket) in every_kind() {
        for (shows, host, end, certificate) in [
            (Shows::Nothing, "127.0.0.1", End::Status(403), None),
            (Shows::Own, "127.0.0.1", passed(h2, websocket), Some(own)),
            (Shows::Nothing, "secret.test", End::Status(403), None),
            (Shows::Nothing, "open.test", End::Status(421), None),
        ] {
            let before = site.seen();
            let client = Client::of("127.0.0.1", shows, h2);
            let found = site.ask(client, &Spelling::of(host, h2), websocket).await;
            assert_eq!(found, end, "{shows:?} {host}");
            match certificate {
                Some(_) => site.told(before, certificate).expect("its certificate"),
                None => assert_eq!(site.seen(), before, "{shows:?} {host}"),
            }
        }
    }
}

/// What a proxy before us says of a client counts where we ask for nothing ourselves.
#[tokio::test]
async fn a_trusted_proxy_speaks_only_where_nobody_asks() {
    let site = Site::new("trusted_proxies = [\"127.0.0.0/8\"]", "").await;
    for (h2, websocket) in every_kind() {
        for (host, certificate, chain) in [
            ("open.test", Some(&[0; 3][..]), &[":AAAB:"][..]),
            ("secret.test", Some(site.pki.own()), &[]),
            ("maybe.test", None, &[]),
        ] {
            let shows = match host {
                "secret.test" => Shows::Own,
                _ => Shows::Nothing,
            };
            let spelling = Spelling::of(host, h2)
                .with("client-cert", ":AAAA:")
                .with("client-cert-chain", ":AAAB:");
            let before = site.seen();
            let end = site
                .ask(Client::of(host, shows, h2), &spelling, websocket)
                .await;
            assert_eq!(end, passed(h2, websocket), "{host}");
            let seen = site.since(before);
            let wanted: Vec<String> = certificate
                .map(|it| format!(":{}:", STANDARD.encode(it)))
                .into_iter()
                .collect();
            assert_eq!(seen[0].head.all("client-cert"), wanted, "{host}");
            assert_eq!(seen[0].head.all("client-cert-chain"), chain, "{host}");
        }
    }
}

#[tokio::test]
async fn refusals_say_which_key_it_was() {
    let site = Site::new("", "").await;
    for (sni, why) in [("secret.test", "client-cert"), ("open.test", "misdirected")] {
        let client = Client::of(sni, Shows::Nothing, false);
        site.ask(client, &Spelling::of("secret.test", false), true)
            .await;
        site.lockgate.record(|record| record["why"] == why).await;
    }
}
