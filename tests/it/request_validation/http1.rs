//! The rows of HTTP/1.1, as bytes.

use super::{Table, Wanted};
use crate::harness::{Head, Lockgate, handshake};

mod framing;
mod heads;
mod targets;
mod upgrades;

#[tokio::test]
async fn http1_heads_are_refused_or_clean() {
    run(heads::rows(), "HTTP/1.1 heads").await;
}

#[tokio::test]
async fn http1_targets_are_refused_or_clean() {
    run(targets::rows(), "HTTP/1.1 targets").await;
}

#[tokio::test]
async fn http1_framing_is_refused_or_clean() {
    run(framing::rows(), "HTTP/1.1 framing").await;
}

#[tokio::test]
async fn http1_upgrades_are_refused_or_clean() {
    run(upgrades::rows(), "HTTP/1.1 upgrades").await;
}

/// One connection: what is sent, every answer until its end, every request that the backend sees.
struct Row {
    name: &'static str,
    bytes: Vec<u8>,
    answers: Vec<u16>,
    wanted: Vec<Wanted>,
    /// The backend may see the beginning of it.
    torn: bool,
}

/// The backend receives nothing.
fn refused(status: u16, name: &'static str, bytes: impl AsRef<[u8]>) -> Row {
    Row {
        name,
        bytes: bytes.as_ref().to_vec(),
        answers: vec![status],
        wanted: vec![],
        torn: false,
    }
}

/// One clean request that starts with this line.
fn passes(start: &str, name: &'static str, bytes: impl AsRef<[u8]>) -> Row {
    Row {
        answers: vec![200],
        wanted: vec![Wanted::request(start)],
        ..refused(200, name, bytes)
    }
}

/// Refused in the middle of its body, when the head may be on its way: the backend must not take what it has for all.
fn torn(status: u16, name: &'static str, bytes: impl AsRef<[u8]>) -> Row {
    Row {
        torn: true,
        ..refused(status, name, bytes)
    }
}

/// A head without its end, for a route that exists.
fn get(more: &str) -> String {
    format!("GET / HTTP/1.1\r\nHost: a.test\r\n{more}\r\n")
}

fn post(more: &str, body: &str) -> String {
    format!("POST / HTTP/1.1\r\nHost: a.test\r\n{more}\r\n{body}")
}

// === impl Row ===

impl Row {
    fn body(mut self, body: &str) -> Row {
        self.wanted[0].body = body.to_owned();
        self
    }

    fn field(mut self, name: &'static str, value: Option<&'static str>) -> Row {
        self.wanted[0].fields.push((name, value));
        self
    }

    fn answers(mut self, answers: &[u16]) -> Row {
        self.answers = answers.to_vec();
        self
    }

    /// A further request in the same connection.
    fn then(mut self, start: &str) -> Row {
        self.wanted.push(Wanted::request(start));
        self
    }
}

async fn run(rows: Vec<Row>, of: &str) {
    let mut table = Table::new().await;
    let torn = rows.iter().filter(|row| row.torn).count();
    for row in rows {
        let ask = async |lockgate: &Lockgate| {
            let answers = answers(lockgate, &row.bytes).await;
            (answers != row.answers).then(|| format!("answered {answers:?}, not {:?}", row.answers))
        };
        table.row(row.name, &row.wanted, ask).await;
    }
    table.end(of, torn).await;
}

/// Every status that comes until the connection ends, which is no later than a deadline of Lockgate.
async fn answers(lockgate: &Lockgate, mut bytes: &[u8]) -> Vec<u16> {
    let mut wire = lockgate.connect().await;
    while let Some(sent) = wire.try_send(bytes).await {
        bytes = &bytes[sent..];
    }
    wire.flush().await;
    let end = wire.end().await;
    let mut rest = &end.bytes[..];
    let mut answers = vec![];
    while let Some(at) = rest.windows(4).position(|it| it == b"\r\n\r\n") {
        let head = Head::parse(&rest[..at + 4]);
        let length = head
            .get("content-length")
            .map_or(0, |it| it.parse().expect("a number"));
        answers.push(head.status());
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
    answers
}
