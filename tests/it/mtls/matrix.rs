//! The matrix of attempts to reach `secret.test` or `a.wild.test` without a valid certificate.

use super::{
    client::{Client, Presents},
    every_kind,
    request::{End, Spelling},
};
use rustls::AlertDescription as Alert;
use std::fmt;

/// One connection and one request; no request if the TLS handshake must fail.
#[derive(Debug)]
pub(super) struct Cell {
    pub(super) client: Client,
    pub(super) spelling: Option<Spelling>,
    pub(super) websocket: bool,
    pub(super) end: End,
}

// === impl Cell ===

impl fmt::Display for Cell {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let spelling = self.spelling.as_ref().map_or("", |it| &it.name);
        let (client, websocket) = (self.client, self.websocket);
        write!(
            f,
            "{client:?}, websocket {websocket}, {spelling}: should be {:?}",
            self.end
        )
    }
}

// === impl Client ===

impl Client {
    pub(super) fn of(sni: &'static str, presents: Presents, h2: bool) -> Client {
        Client {
            sni,
            presents,
            h2,
            tls12: false,
        }
    }
}

pub(super) fn all() -> Vec<Cell> {
    let mut cells = vec![];
    for (h2, websocket) in every_kind() {
        for (sni, spelling, status) in requests(h2) {
            cells.push(Cell {
                client: Client::of(sni, Presents::Nothing, h2),
                spelling: Some(spelling),
                websocket,
                end: End::Status(status),
            });
        }
    }
    for (h2, tls12) in [(false, false), (true, false), (false, true), (true, true)] {
        for (presents, alert) in [
            (Presents::Foreign, Alert::UnknownCA),
            (Presents::SelfSigned, Alert::UnknownCA),
            (Presents::Forged, Alert::DecryptError),
            (Presents::Expired, Alert::CertificateExpired),
            (Presents::Early, Alert::CertificateExpired),
            (Presents::ForServers, Alert::UnsupportedCertificate),
        ] {
            for sni in ["secret.test", "maybe.test", "a.wild.test"] {
                cells.push(Cell {
                    client: Client {
                        tls12,
                        ..Client::of(sni, presents, h2)
                    },
                    spelling: None,
                    websocket: false,
                    end: End::Alert(alert),
                });
            }
        }
    }
    cells
}

/// SNI, request, status.
fn requests(h2: bool) -> Vec<(&'static str, Spelling, u16)> {
    let to = |host| Spelling::of(host, h2);
    let mut cells = vec![];
    // The SNI of a connection, and the status of a request for `secret.test` on it: 403 if the handshake requested a
    // certificate, 421 if not.
    for (sni, status) in [
        ("secret.test", 403),
        ("maybe.test", 403),
        ("a.wild.test", 403),
        ("open.wild.test", 403),
        // Coalesced: the server certificate is valid for both hosts.
        ("open.test", 421),
        // `*.wild.test` requires a certificate, `wild.test` does not.
        ("wild.test", 421),
        // tls.default.
        ("unknown.test", 421),
        ("127.0.0.1", 421),
    ] {
        for host in [
            "secret.test",
            "SECRET.Test",
            "secret.test.",
            "secret.test:443",
            "secret.test:8443",
            "Secret.TEST.:443",
            "a.wild.test",
            "b.A.wild.test",
        ] {
            cells.push((sni, to(host), status));
        }
        for target in ["/public/../", "/public/%2e%2e/x", "//", "/public", "/./"] {
            // "/public" matches the open route of a host that requests certificates.
            if (target, status) != ("/public", 403) {
                cells.push((sni, to("secret.test").target(target), status));
            }
        }
        let forged = to("secret.test")
            .named("forged")
            .with("client-cert", ":AAAA:")
            .with("client-cert-chain", ":AAAA:");
        cells.push((sni, forged, status));
        for twin in ["client_cert", "client_cert_chain", "client-cert_chain"] {
            let forged = to("secret.test").named(twin).with(twin, ":AAAA:");
            cells.push((sni, forged, 400));
        }
        for host in [
            "open.test@secret.test",
            "secret.test@open.test",
            "secret.test..",
            ".secret.test",
            "secret.test:",
            "secret.test:0",
        ] {
            cells.push((sni, to(host), 400));
        }
        // Over HTTP/2 this is no valid authority: the stream is reset.
        if !h2 {
            cells.push((sni, to("secret.test:443:443"), 400));
        }
        cells.extend(two_names(h2, status).map(|(spelling, status)| (sni, spelling, status)));
    }
    // A connection with a requested certificate must not serve hosts without client authentication.
    for sni in ["secret.test", "maybe.test", "a.wild.test"] {
        cells.push((sni, to("open.test"), 421));
        cells.push((sni, to("nowhere.test"), 421));
    }
    cells
}

/// Requests that name two hosts, or none.
fn two_names(h2: bool, status: u16) -> impl Iterator<Item = (Spelling, u16)> {
    let spelling = |target: &'static str, authority, hosts: &[&'static str]| Spelling {
        name: format!("{target} {authority:?} {hosts:?}"),
        target,
        authority,
        hosts: hosts.to_vec(),
        more: vec![],
    };
    let both = [
        (&["open.test", "secret.test"][..], 400),
        (&["secret.test", "open.test"], 400),
        (&["secret.test", "secret.test"], 400),
        (&["open.test, secret.test"], 400),
        (&[], 400),
    ];
    let mut cells = vec![];
    for (hosts, status) in both {
        cells.push((spelling("/", None, hosts), status));
    }
    if h2 {
        cells.extend([
            (spelling("/", Some("open.test"), &["secret.test"]), 400),
            (spelling("/", Some("secret.test"), &["open.test"]), 400),
            (
                spelling("/", Some("open.test"), &["open.test", "secret.test"]),
                400,
            ),
            (spelling("/", Some("secret.test"), &["SECRET.TEST"]), status),
            (spelling("/", None, &["secret.test"]), status),
        ]);
    } else {
        cells.extend([
            (
                spelling("https://secret.test/", None, &["secret.test"]),
                status,
            ),
            (
                spelling("HTTPS://SECRET.test/", None, &["secret.test."]),
                status,
            ),
            (spelling("https://secret.test/", None, &["open.test"]), 400),
            (spelling("https://open.test/", None, &["secret.test"]), 400),
            (
                spelling("https://open.test@secret.test/", None, &["secret.test"]),
                400,
            ),
            (spelling("https://secret.test/", None, &[]), 400),
        ]);
    }
    // A target that begins with two slashes is a path, here of a host without client authentication.
    if !h2 && status == 403 {
        cells.push((spelling("//secret.test/", None, &["open.test"]), 421));
    }
    cells.into_iter()
}
