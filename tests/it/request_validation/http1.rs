//! HTTP/1.1 requests, as bytes.

use super::{ExpectedRequest, Table};
use crate::harness::{Head, Lockgate, handshake};

mod framing;
mod heads;
mod targets;
mod upgrades;

#[tokio::test]
async fn invalid_http1_heads_are_refused_or_normalized() {
    run(heads::rows(), "HTTP/1.1 heads").await;
}

#[tokio::test]
async fn invalid_http1_targets_are_refused_or_normalized() {
    run(targets::rows(), "HTTP/1.1 targets").await;
}

#[tokio::test]
async fn invalid_http1_framing_is_refused_or_normalized() {
    run(framing::rows(), "HTTP/1.1 framing").await;
}

#[tokio::test]
async fn invalid_http1_upgrades_are_refused_or_normalized() {
    run(upgrades::rows(), "HTTP/1.1 upgrades").await;
}

/// One connection: the bytes sent, the status of every response, and every request that the backend receives.
struct Row {
    name: &'static str,
    bytes: Vec<u8>,
    statuses: Vec<u16>,
    expected: Vec<ExpectedRequest>,
    /// The backend may receive the beginning of the request.
    partial: bool,
}

/// A refused request: the backend receives nothing.
fn refused(status: u16, name: &'static str, bytes: impl AsRef<[u8]>) -> Row {
    Row {
        name,
        bytes: bytes.as_ref().to_vec(),
        statuses: vec![status],
        expected: vec![],
        partial: false,
    }
}

/// A forwarded request with this request line.
fn forwarded(start: &str, name: &'static str, bytes: impl AsRef<[u8]>) -> Row {
    Row {
        statuses: vec![200],
        expected: vec![ExpectedRequest::request(start)],
        ..refused(200, name, bytes)
    }
}

/// A request refused in the middle of its body, after its head may have been forwarded: the backend must not receive a
/// complete request.
fn partial(status: u16, name: &'static str, bytes: impl AsRef<[u8]>) -> Row {
    Row {
        partial: true,
        ..refused(status, name, bytes)
    }
}

/// A GET for an existing route, with further header lines.
fn get(more: &str) -> String {
    format!("GET / HTTP/1.1\r\nHost: a.test\r\n{more}\r\n")
}

fn post(more: &str, body: &str) -> String {
    format!("POST / HTTP/1.1\r\nHost: a.test\r\n{more}\r\n{body}")
}

// === impl Row ===

impl Row {
    fn body(mut self, body: &str) -> Row {
        self.expected[0].body = body.to_owned();
        self
    }

    fn field(mut self, name: &'static str, value: Option<&'static str>) -> Row {
        self.expected[0].fields.push((name, value));
        self
    }

    fn statuses(mut self, statuses: &[u16]) -> Row {
        self.statuses = statuses.to_vec();
        self
    }

    /// Expects a further request from the same connection.
    fn then(mut self, start: &str) -> Row {
        self.expected.push(ExpectedRequest::request(start));
        self
    }
}

async fn run(rows: Vec<Row>, of: &str) {
    let mut table = Table::new().await;
    let partial = rows.iter().filter(|row| row.partial).count();
    for row in rows {
        let send = async |lockgate: &Lockgate| {
            let statuses = statuses(lockgate, &row.bytes).await;
            (statuses != row.statuses)
                .then(|| format!("answered {statuses:?}, not {:?}", row.statuses))
        };
        table.row(row.name, &row.expected, send).await;
    }
    table.end(of, partial).await;
}

/// Sends `bytes` on a new connection; returns the status of every response until Lockgate closes the connection.
async fn statuses(lockgate: &Lockgate, mut bytes: &[u8]) -> Vec<u16> {
    let mut wire = lockgate.connect().await;
    while let Some(sent) = wire.try_send(bytes).await {
        bytes = &bytes[sent..];
    }
    wire.flush().await;
    let end = wire.end().await;
    let mut rest = &end.bytes[..];
    let mut statuses = vec![];
    while let Some(at) = rest.windows(4).position(|it| it == b"\r\n\r\n") {
        let head = Head::parse(&rest[..at + 4]);
        let length = head
            .get("content-length")
            .map_or(0, |it| it.parse().expect("a number"));
        statuses.push(head.status());
        rest = match head.status() {
            // Frames follow.
            101 => &[],
            _ => &rest[at + 4 + length..],
        };
    }
    assert!(
        rest.is_empty(),
        "half an answer: {:?}",
        String::from_utf8_lossy(rest)
    );
    statuses
}
