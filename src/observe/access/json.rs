//! Access lines for machines: one JSON object a line. Every field of a kind of event is always there, `null` if it has
//! no value; durations are seconds. The lines are pure ASCII, so that no terminal can be moved by showing them.

use super::{AccessEvent, SessionRecord, cut};
use crate::proto::track::FrameCounts;
use serde::Serialize;
use serde_json::ser::{Formatter, Serializer};
use std::{
    io::{self, Write},
    time::{Duration, SystemTime},
};

/// The whole line, with its end.
pub(super) fn line(event: AccessEvent<'_>, at: SystemTime) -> String {
    let head = LineHead {
        timestamp: humantime::format_rfc3339_millis(at).to_string(),
        event: event.name(),
    };
    let mut line = match event {
        AccessEvent::Open(session) => ascii(&OpenLine {
            head,
            session: session.into(),
        }),
        AccessEvent::Close(session, end) => ascii(&CloseLine {
            head,
            session: session.into(),
            duration: seconds(end.duration),
            code: end.code,
            by: end.by,
            why: end.why,
            from_client: end.from_client.into(),
            from_backend: end.from_backend.into(),
        }),
        AccessEvent::Request(request) => ascii(&RequestLine {
            head,
            client: request.client.to_string(),
            http: request.http,
            method: &cut(request.method),
            host: &cut(request.host),
            path: &cut(request.path),
            route: request.route,
            backend: request.backend,
            status: request.status,
            duration: seconds(request.duration),
            why: request.why,
        }),
    };
    line.push('\n');
    line
}

#[derive(Serialize)]
struct OpenLine {
    #[serde(flatten)]
    head: LineHead,
    #[serde(flatten)]
    session: SessionFields,
}

#[derive(Serialize)]
struct CloseLine {
    #[serde(flatten)]
    head: LineHead,
    #[serde(flatten)]
    session: SessionFields,
    duration: f64,
    code: Option<u16>,
    by: &'static str,
    why: &'static str,
    from_client: CountsJson,
    from_backend: CountsJson,
}

#[derive(Serialize)]
struct RequestLine<'a> {
    #[serde(flatten)]
    head: LineHead,
    client: String,
    http: &'static str,
    method: &'a str,
    host: &'a str,
    path: &'a str,
    route: Option<&'a str>,
    backend: Option<&'a str>,
    status: u16,
    duration: f64,
    why: Option<&'static str>,
}

/// `timestamp` is also its name in the lines of the log.
#[derive(Serialize)]
struct LineHead {
    timestamp: String,
    event: &'static str,
}

#[derive(Serialize)]
struct SessionFields {
    id: String,
    client: String,
    http: &'static str,
    host: String,
    path: String,
    route: String,
    backend: String,
    subprotocol: Option<String>,
    extensions: Option<String>,
}

impl From<&SessionRecord> for SessionFields {
    fn from(session: &SessionRecord) -> Self {
        let optional = |value: &Option<Box<str>>| value.as_deref().map(|v| cut(v).into_owned());
        SessionFields {
            id: format!("{:016x}", session.id),
            client: session.client.to_string(),
            http: session.http,
            host: cut(&session.host).into_owned(),
            path: cut(&session.path).into_owned(),
            route: session.route.to_string(),
            backend: session.backend.to_string(),
            subprotocol: optional(&session.subprotocol),
            extensions: optional(&session.extensions),
        }
    }
}

#[derive(Serialize)]
struct CountsJson {
    frames: u64,
    messages: u64,
    bytes: u64,
}

impl From<FrameCounts> for CountsJson {
    fn from(counts: FrameCounts) -> Self {
        CountsJson {
            frames: counts.frames,
            messages: counts.messages,
            bytes: counts.bytes,
        }
    }
}

/// To the microsecond: what is finer is noise.
fn seconds(duration: Duration) -> f64 {
    duration.as_micros() as f64 / 1e6
}

fn ascii(value: &impl Serialize) -> String {
    let mut line = Vec::with_capacity(512);
    value
        .serialize(&mut Serializer::with_formatter(&mut line, Ascii))
        .expect("strings and numbers always serialize, and a Vec takes all");
    String::from_utf8(line).expect("ASCII")
}

/// serde_json escapes what is below U+0020; this also DEL and all above ASCII (C1 controls, changes of direction).
struct Ascii;

impl Formatter for Ascii {
    fn write_string_fragment<W: ?Sized + Write>(
        &mut self,
        writer: &mut W,
        fragment: &str,
    ) -> io::Result<()> {
        for character in fragment.chars() {
            if character.is_ascii() && !character.is_ascii_control() {
                writer.write_all(&[character as u8])?;
                continue;
            }
            // RFC 8259 §7: beyond the basic plane, a surrogate pair.
            for unit in character.encode_utf16(&mut [0; 2]) {
                write!(writer, "\\u{unit:04x}")?;
            }
        }
        Ok(())
    }
}
