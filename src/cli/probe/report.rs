//! The result of a probe, as text and as JSON.

use serde::Serialize;
use std::{
    fmt::{self, Display},
    net::SocketAddr,
};

/// The results of all steps up to a failed one. Times are in milliseconds.
#[derive(Debug, Serialize)]
pub(super) struct Report {
    url: String,
    pub(super) dns_ms: Option<f64>,
    pub(super) address: Option<SocketAddr>,
    pub(super) tcp_ms: Option<f64>,
    pub(super) tls: Option<TlsReport>,
    pub(super) handshake_ms: Option<f64>,
    pub(super) answer: Option<HttpAnswer>,
    pub(super) ping_ms: Option<f64>,
    pub(super) closed: Option<CloseReceived>,
    /// The step that failed, with the reason.
    pub(super) failed: Option<String>,
}

/// The negotiated TLS parameters.
#[derive(Debug, Serialize)]
pub(super) struct TlsReport {
    pub(super) ms: f64,
    pub(super) version: String,
    pub(super) cipher: String,
    /// The key-exchange group.
    pub(super) group: String,
    pub(super) alpn: Option<String>,
    pub(super) certificate: Certificate,
}

/// The server's leaf certificate.
#[derive(Debug, Serialize)]
pub(super) struct Certificate {
    pub(super) names: Vec<String>,
    pub(super) issuer: String,
    pub(super) not_before: String,
    pub(super) not_after: String,
    pub(super) days_left: i64,
}

/// The answer to the handshake.
#[derive(Debug, Serialize)]
pub(super) struct HttpAnswer {
    pub(super) status: u16,
    pub(super) http: &'static str,
    pub(super) subprotocol: Option<String>,
    pub(super) extensions: Option<String>,
    /// The headers of a refusal.
    pub(super) headers: Vec<(String, String)>,
    /// The beginning of a refusal's body.
    pub(super) body: Option<String>,
}

/// The Close frame received from the server.
#[derive(Debug, Serialize)]
pub(super) struct CloseReceived {
    pub(super) code: u16,
    pub(super) reason: String,
}

impl Report {
    pub(super) fn new(url: &str) -> Report {
        Report {
            url: url.to_owned(),
            dns_ms: None,
            address: None,
            tcp_ms: None,
            tls: None,
            handshake_ms: None,
            answer: None,
            ping_ms: None,
            closed: None,
            failed: None,
        }
    }
}

impl Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.url)?;
        let mut step = |name: &str, ms: Option<f64>, what: &dyn Display| match ms {
            Some(ms) => write!(f, "\n  {name:<10} {ms:>9.3} ms  {what}"),
            None => Ok(()),
        };
        step("DNS", self.dns_ms, &"")?;
        let address = self.address.map(|address| address.to_string());
        step("TCP", self.tcp_ms, &address.unwrap_or_default())?;
        if let Some(tls) = &self.tls {
            step("TLS", Some(tls.ms), tls)?;
        }
        if let Some(answer) = &self.answer {
            step("handshake", self.handshake_ms, answer)?;
        }
        step("ping", self.ping_ms, &"")?;
        if let Some(CloseReceived { code, reason }) = &self.closed {
            write!(f, "\n  close                     {code} {reason}")?;
        }
        match &self.failed {
            Some(failed) => write!(f, "\nfailed at {failed}"),
            None => write!(f, "\nall steps succeeded"),
        }
    }
}

impl Display for TlsReport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Certificate {
            names,
            issuer,
            not_before,
            not_after,
            days_left,
        } = &self.certificate;
        let alpn = self.alpn.as_deref().unwrap_or("no ALPN");
        write!(
            f,
            "{}, {}, {}, {alpn}{INDENT}for {}{INDENT}from {issuer}{INDENT}{not_before} to {not_after}, days left: {days_left}",
            self.version,
            self.group,
            self.cipher,
            names.join(", ")
        )
    }
}

impl Display for HttpAnswer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} over HTTP/{}", self.status, self.http)?;
        for (what, value) in [
            ("subprotocol", &self.subprotocol),
            ("extensions", &self.extensions),
        ] {
            if let Some(value) = value {
                write!(f, "{INDENT}{what} {value}")?;
            }
        }
        for (name, value) in &self.headers {
            write!(f, "{INDENT}{name}: {value}")?;
        }
        match &self.body {
            Some(body) => write!(f, "{INDENT}{body}"),
            None => Ok(()),
        }
    }
}

const INDENT: &str = "\n                            ";
