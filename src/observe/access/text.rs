//! Access lines as text: columns first, then `key=value`. A value with characters other than visible ASCII is quoted.

use crate::{
    observe::access::record::{
        AccessEvent, OmittedRecord, RequestRecord, SessionEnd, SessionFacts, truncate,
        truncate_short,
    },
    proto::frame_tracker::FrameCounts,
};
use std::{
    fmt::{self, Display, Formatter, Write},
    time::{Duration, SystemTime},
};

/// Returns the line, including the newline.
pub(crate) fn line(event: AccessEvent<'_>, at: SystemTime) -> String {
    let at = humantime::format_rfc3339_millis(at);
    // As wide as the longest name, "request".
    let name = format_args!("{:<7}", event.name());
    let mut line = String::with_capacity(TYPICAL_LINE_LEN);
    let written = match event {
        AccessEvent::Open(session) => writeln!(line, "{at} {name} {}", OpenText(session)),
        AccessEvent::Close(session, end) => {
            writeln!(line, "{at} {name} {} {}", OpenText(session), CloseText(end))
        }
        AccessEvent::Request(request) => writeln!(line, "{at} {name} {}", RequestText(request)),
        AccessEvent::Omitted(omitted) => writeln!(line, "{at} {name} {}", OmittedText(omitted)),
    };
    debug_assert!(written.is_ok(), "writing to a String cannot fail");
    line
}

/// In bytes: most lines fit, and need one allocation.
const TYPICAL_LINE_LEN: usize = 256;

struct OpenText<'a>(SessionFacts<'a>);

impl Display for OpenText<'_> {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        let SessionFacts {
            record: session,
            subject,
        } = self.0;
        write!(
            f,
            "{:016x} {} {} route={} backend={} h={}",
            session.id,
            session.client,
            QuotedText(&[&session.host, &session.path]),
            QuotedText(&[&session.route]),
            QuotedText(&[&session.backend]),
            session.http,
        )?;
        pair(f, "subprotocol", session.subprotocol.as_deref())?;
        pair(f, "extensions", session.extensions.as_deref())?;
        pair(f, "subject", subject)
    }
}

struct CloseText<'a>(&'a SessionEnd);

impl Display for CloseText<'_> {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        let end = self.0;
        write!(f, "{} code=", DurationText(end.duration))?;
        match end.code {
            Some(code) => write!(f, "{code}")?,
            None => f.write_str("none")?,
        }
        let (inward, outward) = (CountsText(end.from_client), CountsText(end.from_backend));
        write!(
            f,
            " by={} why={} in={inward} out={outward}",
            end.by, end.why
        )?;
        pair(f, "hint", end.hint)
    }
}

struct RequestText<'a>(&'a RequestRecord<'a>);

impl Display for RequestText<'_> {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        let request = self.0;
        write!(
            f,
            "{} {} {} {} {}",
            request.client,
            QuotedText(&[&truncate_short(request.method)]),
            QuotedText(&[&truncate_short(request.host), &truncate_short(request.path)]),
            request.status,
            DurationText(request.duration),
        )?;
        pair(f, "why", request.why)?;
        pair(f, "route", request.route)?;
        pair(f, "backend", request.backend)?;
        pair(f, "subject", request.subject)?;
        write!(f, " h={}", request.http)
    }
}

struct OmittedText<'a>(&'a OmittedRecord);

impl Display for OmittedText<'_> {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        let omitted = self.0;
        match omitted.client {
            Some(client) => write!(f, "{client}")?,
            None => f.write_str("-")?,
        }
        write!(
            f,
            " requests={} {}",
            omitted.requests,
            DurationText(omitted.duration)
        )
    }
}

fn pair(f: &mut Formatter<'_>, key: &str, value: Option<&str>) -> fmt::Result {
    match value {
        Some(value) => write!(f, " {key}={}", QuotedText(&[value])),
        None => Ok(()),
    }
}

/// Strings from the wire, joined into one field without line breaks or control characters; spaces occur only inside
/// quotes.
struct QuotedText<'a>(&'a [&'a str]);

impl Display for QuotedText<'_> {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        let plain = |byte: u8| byte.is_ascii_graphic() && byte != b'"' && byte != b'\\';
        let mut parts = self.0.iter().map(|part| truncate(part));
        let empty = self.0.iter().all(|part| part.is_empty());
        if !empty && parts.clone().all(|part| part.bytes().all(plain)) {
            return parts.try_for_each(|part| f.write_str(&part));
        }
        // Debug escapes quotes, control characters and unprintable code points, including bidirectional controls.
        write!(f, "{:?}", parts.collect::<String>())
    }
}

/// A duration as "850us", "12ms", "12.3s", "2m05s", "3h07m" or "2d04h".
struct DurationText(Duration);

impl Display for DurationText {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        let seconds = self.0.as_secs();
        match seconds {
            0 if self.0.as_millis() == 0 => write!(f, "{}us", self.0.as_micros()),
            0 => write!(f, "{}ms", self.0.as_millis()),
            1..60 => write!(f, "{seconds}.{}s", self.0.subsec_millis() / 100),
            60..3600 => write!(f, "{}m{:02}s", seconds / 60, seconds % 60),
            3600..86_400 => write!(f, "{}h{:02}m", seconds / 3600, seconds / 60 % 60),
            _ => write!(f, "{}d{:02}h", seconds / 86_400, seconds / 3600 % 24),
        }
    }
}

/// Frames, messages and bytes of one direction: "12f/10m/1.2KiB".
struct CountsText(FrameCounts);

impl Display for CountsText {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        let FrameCounts {
            frames,
            messages,
            bytes,
        } = self.0;
        write!(f, "{frames}f/{messages}m/")?;
        if bytes < 1024 {
            return write!(f, "{bytes}B");
        }
        let mut size = bytes as f64 / 1024.0;
        let mut units = ["KiB", "MiB", "GiB", "TiB"].into_iter().peekable();
        while let Some(unit) = units.next() {
            if size < 1024.0 || units.peek().is_none() {
                return write!(f, "{size:.1}{unit}");
            }
            size /= 1024.0;
        }
        Ok(())
    }
}
