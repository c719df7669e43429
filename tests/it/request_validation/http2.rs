//! The rows of HTTP/2, as header lists and frames that no library lets a client send (RFC 9113 §8, RFC 8441 §4).

use super::{Table, Wanted};
use crate::harness::{
    Lockgate, RawH2,
    raw_h2::{DATA, END_HEADERS, END_STREAM, GOAWAY, HEADERS, HELLO, RST_STREAM, frame, hpack},
};

mod frames;
mod requests;
mod tunnels;

#[tokio::test]
async fn http2_requests_are_refused_or_clean() {
    run(requests::rows(), "HTTP/2 requests").await;
}

#[tokio::test]
async fn http2_tunnels_are_refused_or_clean() {
    run(tunnels::rows(), "HTTP/2 tunnels").await;
}

#[tokio::test]
async fn http2_frames_are_refused_or_clean() {
    run(frames::rows(), "HTTP/2 frames").await;
}

/// One connection: what is sent behind the preface, and how its last stream, or itself, ends.
struct Row {
    name: &'static str,
    bytes: Vec<u8>,
    end: End,
    wanted: Vec<Wanted>,
    /// The backend may see the beginning of it.
    torn: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum End {
    Status(u16),
    /// RST_STREAM with this error.
    Reset(u32),
    /// GOAWAY with an error: h2 calls most of them PROTOCOL_ERROR.
    Away,
    /// The connection is over without a word.
    Over,
}

type List<'a> = Vec<(&'a str, &'a str)>;

/// RFC 9113 §7.
const PROTOCOL_ERROR: u32 = 1;

/// The backend receives nothing.
fn refused(end: End, name: &'static str, bytes: Vec<u8>) -> Row {
    Row {
        name,
        bytes,
        end,
        wanted: vec![],
        torn: false,
    }
}

/// A malformed request is an error of its stream (§8.1.1), or of the connection if one likes (§5.4.1).
fn malformed(name: &'static str, bytes: Vec<u8>) -> Row {
    refused(End::Reset(PROTOCOL_ERROR), name, bytes)
}

/// One clean request that starts with this line.
fn passes(start: &str, name: &'static str, bytes: Vec<u8>) -> Row {
    Row {
        wanted: vec![Wanted::request(start)],
        ..refused(End::Status(200), name, bytes)
    }
}

/// A GET for a route that exists.
fn get(more: &[(&'static str, &'static str)]) -> List<'static> {
    with(more, &[])
}

/// The same, with other pseudo-headers: an empty one is left out.
fn with(
    more: &[(&'static str, &'static str)],
    other: &[(&'static str, Option<&'static str>)],
) -> List<'static> {
    let usual = [
        (":method", "GET"),
        (":scheme", "https"),
        (":authority", "a.test"),
        (":path", "/"),
    ];
    let mut list = vec![];
    for (name, value) in usual {
        let written = other.iter().find(|(it, _)| *it == name);
        list.extend(
            written
                .map_or(Some(value), |(_, it)| *it)
                .map(|value| (name, value)),
        );
    }
    list.extend(more);
    list
}

/// A whole request without a body, in stream 1.
fn ask(list: &[(&str, &str)]) -> Vec<u8> {
    frame(HEADERS, END_HEADERS | END_STREAM, 1, &hpack(list))
}

/// A request whose body is to come.
fn open(list: &[(&str, &str)]) -> Vec<u8> {
    frame(HEADERS, END_HEADERS, 1, &hpack(list))
}

/// The body, or its last piece.
fn body(body: &str) -> Vec<u8> {
    frame(DATA, END_STREAM, 1, body.as_bytes())
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

    fn torn(mut self) -> Row {
        self.torn = true;
        self
    }
}

async fn run(rows: Vec<Row>, of: &str) {
    let mut table = Table::new().await;
    let torn = rows.iter().filter(|row| row.torn).count();
    for row in rows {
        let ask = async |lockgate: &Lockgate| {
            let end = end(lockgate, &row.bytes).await;
            let malformed = row.end == End::Reset(PROTOCOL_ERROR) && end == End::Away;
            (end != row.end && !malformed).then(|| format!("{end:?}, not {:?}", row.end))
        };
        table.row(row.name, &row.wanted, ask).await;
    }
    table.end(of, torn).await;
}

/// Sends `bytes`, and reads until a stream or the connection ends. A stream that is reset after its response, because
/// the rest of its request is not needed, has ended with the response.
async fn end(lockgate: &Lockgate, bytes: &[u8]) -> End {
    let stream = lockgate.tls_for_h2().await;
    let mut raw = RawH2::over(stream, &[HELLO, bytes].concat()).await;
    let mut status = None;
    while let Some(frame) = raw.frame().await {
        match frame.kind {
            HEADERS => status = status.or(Some(End::Status(frame.status()))),
            RST_STREAM => return status.unwrap_or(End::Reset(frame.error())),
            // Without an error it only says that the connection has been idle.
            GOAWAY if frame.error() != 0 => return End::Away,
            _ => {}
        }
        let last = matches!(frame.kind, HEADERS | DATA) && frame.flags & END_STREAM != 0;
        if let (true, Some(status)) = (last, status) {
            return status;
        }
    }
    status.unwrap_or(End::Over)
}
