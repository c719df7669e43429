//! Clients' certificates: nobody reaches a route with `client_cert = "require"` without one, in whatever spelling of its
//! host, over whichever connection; and who has one is told to the backend as it is.
//!
//! A cell of the table is one connection and one request. It says how that ends, and the backend must have seen nothing.

mod ask;
mod cells;
mod client;

use crate::{
    gate::recorder::{Record, Seen, recorder},
    harness::Lockgate,
};
use ask::{End, Spelling, ask, knock};
use base64::{Engine, engine::general_purpose::STANDARD};
use client::{Client, Pki, Shows};
use rustls::{ClientConfig, HandshakeKind};
use std::sync::Arc;
use tempfile::TempDir;

/// A Lockgate with open and closed hosts in front of a recorder.
struct Site {
    lockgate: Lockgate,
    record: Record,
    pki: Pki,
    /// Of what is named in the configuration.
    _folder: TempDir,
}

// === impl Site ===

impl Site {
    async fn new(server: &str, more: &str) -> Site {
        let (backend, record) = recorder().await;
        let folder = TempDir::new().expect("a temporary folder");
        let pki = Pki::new(folder.path());
        let mut config = format!(
            "[server]\nhttps = [\"127.0.0.1:0\"]\nhttp = []\n{server}\n[tls]\ndev_ca = true\ndefault = \"open.test\"\n\
             certificates = [{{ cert = \"{0}/server.pem\", key = \"{0}/server.key\" }}]\nclient_ca = \"{0}/clients.pem\"\n",
            folder.path().display(),
        );
        for (name, rule) in [
            ("open", "hosts = [\"open.test\", \"open.wild.test\"]"),
            (
                "secret",
                "hosts = [\"secret.test\"]\nclient_cert = \"require\"",
            ),
            ("public", "hosts = [\"secret.test\"]\npath = \"/public/*\""),
            (
                "maybe",
                "hosts = [\"maybe.test\"]\nclient_cert = \"optional\"",
            ),
            (
                "wild",
                "hosts = [\"*.wild.test\"]\nclient_cert = \"require\"",
            ),
        ] {
            config.push_str(&route(name, rule, backend));
        }
        if !more.is_empty() {
            config.push_str(&route("more", more, backend));
        }
        Site {
            lockgate: Lockgate::with_file(&config).start().await,
            record,
            pki,
            _folder: folder,
        }
    }

    fn config(&self, client: Client) -> Arc<ClientConfig> {
        Arc::new(self.pki.config(client))
    }

    async fn ask(&self, client: Client, spelling: &Spelling, websocket: bool) -> End {
        let config = self.config(client);
        let (end, _) = ask(client, &config, self.lockgate.https, spelling, websocket).await;
        end
    }

    /// What the backend saw since there were `before`.
    fn since(&self, before: usize) -> Vec<Seen> {
        self.record.borrow()[before..].to_vec()
    }

    fn seen(&self) -> usize {
        self.record.borrow().len()
    }

    /// The one request that the backend saw since then; it has this certificate and no other.
    fn told(&self, before: usize, certificate: Option<&[u8]>) -> Result<(), String> {
        let seen = self.since(before);
        let [one] = &seen[..] else {
            return Err(format!("the backend saw {seen:?}"));
        };
        let wanted: Vec<String> = certificate
            .map(|it| format!(":{}:", STANDARD.encode(it)))
            .into_iter()
            .collect();
        let (found, chain) = (
            one.head.all("client-cert"),
            one.head.all("client-cert-chain"),
        );
        match found == wanted && chain.is_empty() {
            true => Ok(()),
            false => Err(format!("Client-Cert {found:?}, chain {chain:?}")),
        }
    }
}

fn route(name: &str, rule: &str, backend: std::net::SocketAddr) -> String {
    format!("[[routes]]\nname = \"{name}\"\n{rule}\nto = \"ws://{backend}\"\n")
}

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
async fn nobody_passes_without_a_certificate() {
    let site = Site::new("", "").await;
    let mut wrong = vec![];
    let cells = cells::all();
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
async fn who_has_a_certificate_passes_and_the_backend_is_told() {
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
