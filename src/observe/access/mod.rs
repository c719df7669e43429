//! The access log: one record per request, two per session (open and close). Records never contain the query, which may
//! carry secrets. The line formats are in `access/text.rs` and `access/json.rs`.

pub(crate) mod json;
pub(crate) mod text;

use crate::{
    config::{Access, LogFormat},
    observe::async_writer::{self, LogGuard},
    proto::frame_tracker::FrameCounts,
};
use std::{
    borrow::Cow,
    fs::OpenOptions,
    io::{self, Write},
    net::IpAddr,
    sync::Arc,
    time::{Duration, SystemTime},
};
use tracing_appender::non_blocking::NonBlocking;

/// The access log. Writing never blocks; clones share one writer.
#[derive(Debug, Clone)]
pub struct AccessLog {
    out: Option<NonBlocking>,
    format: LogFormat,
}

/// The facts known when a session opens. Kept as long as the session, so it is small.
#[derive(Debug, Clone)]
pub struct SessionRecord {
    /// The session's id: unique in this process, and almost certainly across processes. Written as 16 hex digits.
    pub id: u64,
    /// The client's address; an IPv4-mapped IPv6 address is written as IPv4.
    pub client: IpAddr,
    /// The HTTP version: "1.1" or "2".
    pub http: &'static str,
    /// The host as the client sent it.
    pub host: Box<str>,
    /// The path without the query.
    pub path: Box<str>,
    /// The route's name.
    pub route: Arc<str>,
    /// The backend's address.
    pub backend: Arc<str>,
    /// The negotiated subprotocol.
    pub subprotocol: Option<Box<str>>,
    /// The negotiated extensions.
    pub extensions: Option<Box<str>>,
}

/// How a session ended.
#[derive(Debug, Clone, Copy)]
pub struct SessionEnd {
    /// The time since the session opened.
    pub duration: Duration,
    /// Frames relayed from the client to the backend.
    pub from_client: FrameCounts,
    /// Frames relayed from the backend to the client.
    pub from_backend: FrameCounts,
    /// The close code that ended the session, if there was one.
    pub code: Option<u16>,
    /// The initiator: "client", "backend", "lockgate" or "operator".
    pub by: &'static str,
    /// The reason, from a closed set of words.
    pub why: &'static str,
}

/// A request that did not become a session.
#[derive(Debug, Clone, Copy)]
pub struct RequestRecord<'a> {
    /// The client's address; an IPv4-mapped IPv6 address is written as IPv4.
    pub client: IpAddr,
    /// The HTTP version: "1.1" or "2".
    pub http: &'static str,
    /// The request method.
    pub method: &'a str,
    /// The host as the client sent it; "" if there was none.
    pub host: &'a str,
    /// The path without the query.
    pub path: &'a str,
    /// The route's name, if one matched.
    pub route: Option<&'a str>,
    /// The backend's address, if one was chosen.
    pub backend: Option<&'a str>,
    /// The response status.
    pub status: u16,
    /// The time until the head of the response.
    pub duration: Duration,
    /// The reason of a refusal, from a closed set of words.
    pub why: Option<&'static str>,
}

/// An event that has a line in the access log.
#[derive(Clone, Copy)]
pub(crate) enum AccessEvent<'a> {
    Open(&'a SessionRecord),
    Close(&'a SessionRecord, &'a SessionEnd),
    Request(&'a RequestRecord<'a>),
}

// === impl AccessLog ===

impl AccessLog {
    /// Opens the destination named by `access`. A file is appended to and kept open, so logrotate needs `copytruncate`.
    /// Lines that find the queue full are lost and reported with a warning.
    pub fn open(access: &Access, format: LogFormat) -> io::Result<(AccessLog, LogGuard)> {
        Ok(match access {
            Access::Off => (AccessLog { out: None, format }, LogGuard::idle()),
            Access::Stdout => AccessLog::to(io::stdout(), format),
            Access::File(path) => {
                let file = OpenOptions::new().append(true).create(true).open(path);
                let file = file.map_err(|error| {
                    let message =
                        format!("server.access = {:?}: {error}", path.display().to_string());
                    io::Error::new(error.kind(), message)
                })?;
                AccessLog::to(file, format)
            }
        })
    }

    fn to(writer: impl Write + Send + 'static, format: LogFormat) -> (AccessLog, LogGuard) {
        let (out, guard) =
            async_writer::spawn_writer(writer, "access", async_writer::QUEUE_CAPACITY);
        (
            AccessLog {
                out: Some(out),
                format,
            },
            guard,
        )
    }

    /// Writes the line of a session that has opened.
    pub fn opened(&self, session: &SessionRecord) {
        self.write(AccessEvent::Open(session));
    }

    /// Writes the line of a session that has closed.
    pub fn closed(&self, session: &SessionRecord, end: &SessionEnd) {
        self.write(AccessEvent::Close(session, end));
    }

    /// Writes the line of a request that has been answered.
    pub fn request(&self, request: &RequestRecord<'_>) {
        self.write(AccessEvent::Request(request));
    }

    fn write(&self, event: AccessEvent<'_>) {
        let Some(out) = &self.out else { return };
        let line = event.line(self.format, SystemTime::now());
        // The queue accepts every line, or counts it as lost.
        let _ = out.clone().write_all(line.as_bytes());
    }
}

// === impl AccessEvent ===

impl AccessEvent<'_> {
    fn line(self, format: LogFormat, at: SystemTime) -> String {
        match format {
            LogFormat::Text => text::line(self, at),
            LogFormat::Json => json::line(self, at),
        }
    }

    fn name(self) -> &'static str {
        match self {
            AccessEvent::Open(_) => "open",
            AccessEvent::Close(..) => "close",
            AccessEvent::Request(_) => "request",
        }
    }
}

/// Truncates a string from the wire to [`MAX_FIELD_CHARS`], with "…" appended.
fn truncate(value: &str) -> Cow<'_, str> {
    if value.len() <= MAX_FIELD_CHARS {
        return Cow::Borrowed(value);
    }
    match value.char_indices().nth(MAX_FIELD_CHARS) {
        None => Cow::Borrowed(value),
        Some((end, _)) => Cow::Owned(format!("{}…", value.split_at(end).0)),
    }
}

/// In characters. A request head may have 16 KiB, which is too long for a queued line.
const MAX_FIELD_CHARS: usize = 1024;

#[cfg(test)]
mod tests;
