//! Access lines as JSON: one object per line. All fields of an event are always present, `null` if there is no value.
//! Durations are in seconds. Lines are pure ASCII, so that their contents cannot control a terminal.

use crate::{
    observe::access::record::{AccessEvent, SessionFacts, truncate, truncate_short},
    proto::frame_tracker::FrameCounts,
};
use serde::Serialize;
use serde_json::ser::{Formatter, Serializer};
use std::{
    io::{self, Write},
    time::{Duration, SystemTime},
};

/// Returns the line, including the newline.
pub(crate) fn line(event: AccessEvent<'_>, at: SystemTime) -> String {
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
            hint: end.hint,
            from_client: end.from_client.into(),
            from_backend: end.from_backend.into(),
        }),
        AccessEvent::Request(request) => ascii(&RequestLine {
            head,
            client: request.client.to_string(),
            http: request.http,
            method: &truncate_short(request.method),
            host: &truncate_short(request.host),
            path: &truncate_short(request.path),
            route: request.route,
            backend: request.backend,
            subject: request
                .subject
                .map(|subject| truncate(subject).into_owned()),
            status: request.status,
            duration: seconds(request.duration),
            why: request.why,
        }),
        AccessEvent::Omitted(omitted) => ascii(&OmittedLine {
            head,
            client: omitted.client.map(|client| client.to_string()),
            requests: omitted.requests,
            duration: seconds(omitted.duration),
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
    hint: Option<&'static str>,
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
    subject: Option<String>,
    status: u16,
    duration: f64,
    why: Option<&'static str>,
}

#[derive(Serialize)]
struct OmittedLine {
    #[serde(flatten)]
    head: LineHead,
    client: Option<String>,
    requests: u64,
    duration: f64,
}

/// The fields common to all lines. The log uses the name `timestamp` too.
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
    subject: Option<String>,
}

impl From<SessionFacts<'_>> for SessionFields {
    fn from(facts: SessionFacts<'_>) -> Self {
        let session = facts.record;
        let optional =
            |value: &Option<Box<str>>| value.as_deref().map(|v| truncate(v).into_owned());
        SessionFields {
            id: format!("{:016x}", session.id),
            client: session.client.to_string(),
            http: session.http,
            host: truncate(&session.host).into_owned(),
            path: truncate(&session.path).into_owned(),
            route: session.route.to_string(),
            backend: session.backend.to_string(),
            subprotocol: optional(&session.subprotocol),
            extensions: optional(&session.extensions),
            subject: facts.subject.map(|subject| truncate(subject).into_owned()),
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

/// Returns the duration in seconds, rounded down to the microsecond.
fn seconds(duration: Duration) -> f64 {
    duration.as_micros() as f64 / 1e6
}

/// Serialises `value` as JSON in pure ASCII.
fn ascii(value: &impl Serialize) -> String {
    let mut line = Vec::with_capacity(512);
    value
        .serialize(&mut Serializer::with_formatter(&mut line, AsciiFormatter))
        .expect("strings and numbers always serialize, and writing to a Vec cannot fail");
    String::from_utf8(line).expect("ASCII")
}

/// A formatter that escapes DEL and all non-ASCII characters (C1 and bidirectional controls among them). serde_json
/// itself escapes only those below U+0020.
struct AsciiFormatter;

impl Formatter for AsciiFormatter {
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
            // RFC 8259 §7: a surrogate pair outside the Basic Multilingual Plane.
            for unit in character.encode_utf16(&mut [0; 2]) {
                write!(writer, "\\u{unit:04x}")?;
            }
        }
        Ok(())
    }
}
