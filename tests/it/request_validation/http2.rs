//! HTTP/2 requests, as header lists and frames that client libraries do not send (RFC 9113 §8, RFC 8441 §4).

use super::{ExpectedRequest, Table};
use crate::harness::{
    Lockgate, RawH2,
    raw_h2::{DATA, END_HEADERS, END_STREAM, GOAWAY, HEADERS, HELLO, RST_STREAM, frame, hpack},
};

mod frames;
mod requests;
mod tunnels;

#[tokio::test]
async fn invalid_http2_requests_are_refused_or_normalized() {
    run(requests::rows(), "HTTP/2 requests").await;
}

#[tokio::test]
async fn invalid_http2_tunnels_are_refused_or_normalized() {
    run(tunnels::rows(), "HTTP/2 tunnels").await;
}

#[tokio::test]
async fn invalid_http2_frames_are_refused_or_normalized() {
    run(frames::rows(), "HTTP/2 frames").await;
}

/// One connection: the bytes sent after the preface, and how its last stream or the connection ends.
struct Row {
    name: &'static str,
    bytes: Vec<u8>,
    end: End,
    expected: Vec<ExpectedRequest>,
    /// The backend may receive the beginning of the request.
    partial: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum End {
    Status(u16),
    /// RST_STREAM with this error.
    Reset(u32),
    /// GOAWAY with an error; h2 sends PROTOCOL_ERROR for most of them.
    Away,
    /// The connection was closed without RST_STREAM or GOAWAY.
    Over,
}

type List<'a> = Vec<(&'a str, &'a str)>;

/// RFC 9113 §7.
const PROTOCOL_ERROR: u32 = 1;

/// A refused request: the backend receives nothing.
fn refused(end: End, name: &'static str, bytes: Vec<u8>) -> Row {
    Row {
        name,
        bytes,
        end,
        expected: vec![],
        partial: false,
    }
}

/// A malformed request is a stream error (§8.1.1), which an endpoint may treat as a connection error (§5.4.1).
fn malformed(name: &'static str, bytes: Vec<u8>) -> Row {
    refused(End::Reset(PROTOCOL_ERROR), name, bytes)
}

/// A forwarded request with this request line.
fn forwarded(start: &str, name: &'static str, bytes: Vec<u8>) -> Row {
    Row {
        expected: vec![ExpectedRequest::request(start)],
        ..refused(End::Status(200), name, bytes)
    }
}

/// A GET for an existing route, with further fields.
fn get(more: &[(&'static str, &'static str)]) -> List<'static> {
    with(more, &[])
}

/// A GET whose pseudo-headers are replaced; `None` omits one.
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

/// A complete request without a body, in stream 1.
fn request(list: &[(&str, &str)]) -> Vec<u8> {
    frame(HEADERS, END_HEADERS | END_STREAM, 1, &hpack(list))
}

/// A request whose body follows.
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
        self.expected[0].body = body.to_owned();
        self
    }

    fn field(mut self, name: &'static str, value: Option<&'static str>) -> Row {
        self.expected[0].fields.push((name, value));
        self
    }

    fn partial(mut self) -> Row {
        self.partial = true;
        self
    }
}

async fn run(rows: Vec<Row>, of: &str) {
    let mut table = Table::new().await;
    let partial = rows.iter().filter(|row| row.partial).count();
    for row in rows {
        let send = async |lockgate: &Lockgate| {
            let end = end(lockgate, &row.bytes).await;
            let malformed = row.end == End::Reset(PROTOCOL_ERROR) && end == End::Away;
            (end != row.end && !malformed).then(|| format!("{end:?}, not {:?}", row.end))
        };
        table.row(row.name, &row.expected, send).await;
    }
    table.end(of, partial).await;
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
            // GOAWAY without an error closes an idle connection.
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
