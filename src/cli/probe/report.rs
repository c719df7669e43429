//! The result of a probe, as text and as JSON.

use serde::Serialize;
use std::{
    fmt::{self, Display},
    net::SocketAddr,
};

/// The results of all steps up to a failed one. Times are in milliseconds.
#[derive(Debug, Serialize)]
pub(crate) struct Report {
    url: String,
    pub(crate) dns_ms: Option<f64>,
    pub(crate) address: Option<SocketAddr>,
    pub(crate) tcp_ms: Option<f64>,
    pub(crate) tls: Option<TlsReport>,
    pub(crate) handshake_ms: Option<f64>,
    pub(crate) answer: Option<HttpAnswer>,
    pub(crate) ping_ms: Option<f64>,
    pub(crate) closed: Option<CloseReceived>,
    /// The step that failed, with the reason.
    pub(crate) failed: Option<String>,
}

/// The negotiated TLS parameters.
#[derive(Debug, Serialize)]
pub(crate) struct TlsReport {
    pub(crate) ms: f64,
    pub(crate) version: String,
    pub(crate) cipher: String,
    /// The key-exchange group.
    pub(crate) group: String,
    pub(crate) alpn: Option<String>,
    pub(crate) certificate: Certificate,
}

/// The server's leaf certificate.
#[derive(Debug, Serialize)]
pub(crate) struct Certificate {
    pub(crate) names: Vec<String>,
    pub(crate) issuer: String,
    pub(crate) not_before: String,
    pub(crate) not_after: String,
    pub(crate) days_left: i64,
}

/// The answer to the handshake.
#[derive(Debug, Serialize)]
pub(crate) struct HttpAnswer {
    pub(crate) status: u16,
    pub(crate) http: &'static str,
    pub(crate) subprotocol: Option<String>,
    pub(crate) extensions: Option<String>,
    /// The headers of a refusal.
    pub(crate) headers: Vec<(String, String)>,
    /// The beginning of a refusal's body.
    pub(crate) body: Option<String>,
}

/// The Close frame received from the server.
#[derive(Debug, Serialize)]
pub(crate) struct CloseReceived {
    pub(crate) code: u16,
    pub(crate) reason: String,
}

// === impl Report ===

impl Report {
    pub(crate) fn new(url: &str) -> Report {
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

// === impl TlsReport ===

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

// === impl HttpAnswer ===

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
