//! The table: every way that we know to come to `secret.test` or `a.wild.test` without a certificate.

use super::{
    client::{Client, Shows},
    every_kind,
    request::{End, Spelling},
};
use rustls::AlertDescription as Alert;
use std::fmt;

/// One connection and one request; none where the handshake already fails.
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
    pub(super) fn of(sni: &'static str, shows: Shows, h2: bool) -> Client {
        Client {
            sni,
            shows,
            h2,
            old: false,
        }
    }
}

pub(super) fn all() -> Vec<Cell> {
    let mut cells = vec![];
    for (h2, websocket) in every_kind() {
        for (sni, spelling, status) in requests(h2) {
            cells.push(Cell {
                client: Client::of(sni, Shows::Nothing, h2),
                spelling: Some(spelling),
                websocket,
                end: End::Status(status),
            });
        }
    }
    for (h2, old) in [(false, false), (true, false), (false, true), (true, true)] {
        for (shows, alert) in [
            (Shows::Foreign, Alert::UnknownCA),
            (Shows::SelfSigned, Alert::UnknownCA),
            (Shows::Forged, Alert::DecryptError),
            (Shows::Expired, Alert::CertificateExpired),
            (Shows::Early, Alert::CertificateExpired),
            (Shows::ForServers, Alert::UnsupportedCertificate),
        ] {
            for sni in ["secret.test", "maybe.test", "a.wild.test"] {
                cells.push(Cell {
                    client: Client {
                        old,
                        ..Client::of(sni, shows, h2)
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
    // How a connection may have come about, and what a request for `secret.test` is answered there: 403 where a
    // certificate was asked for, 421 where it was not.
    for (sni, status) in [
        ("secret.test", 403),
        ("maybe.test", 403),
        ("a.wild.test", 403),
        ("open.wild.test", 403),
        // Coalesced: the certificate that it was opened with is for both hosts.
        ("open.test", 421),
        // Below it every name is asked, it is not.
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
            // "/public" belongs to the open route, on a host that asks all the same.
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
        // Over HTTP/2 that is no authority at all: the stream is reset.
        if !h2 {
            cells.push((sni, to("secret.test:443:443"), 400));
        }
        cells.extend(two_names(h2, status).map(|(spelling, status)| (sni, spelling, status)));
    }
    // What was asked for elsewhere is not for hosts that ask for nothing.
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
    // A path that begins with two slashes is a path, of a host that asks for nothing.
    if !h2 && status == 403 {
        cells.push((spelling("//secret.test/", None, &["open.test"]), 421));
    }
    cells.into_iter()
}
