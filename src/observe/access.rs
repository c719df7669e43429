//! One record per request, two per session: as it opens and as it closes. The query never gets into a record: it may
//! carry secrets. How a line looks is in `access/text.rs` and `access/json.rs`.

mod json;
mod text;

use super::queue::{self, LogGuard};
use crate::{
    config::{Access, LogFormat},
    proto::track::FrameCounts,
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

/// Writes access lines without ever blocking; clones share one writer.
#[derive(Debug, Clone)]
pub struct AccessLog {
    out: Option<NonBlocking>,
    format: LogFormat,
}

/// A session, as it opens. Lives as long as it: kept small.
#[derive(Debug, Clone)]
pub struct SessionRecord {
    /// Unique in this process and, most likely, beyond it; written as 16 hex digits.
    pub id: u64,
    /// Unmapped.
    pub client: IpAddr,
    /// "1.1" or "2".
    pub http: &'static str,
    /// As the client wrote it.
    pub host: Box<str>,
    /// Without the query.
    pub path: Box<str>,
    /// The route's name.
    pub route: Arc<str>,
    /// The backend's address.
    pub backend: Arc<str>,
    /// The one agreed on.
    pub subprotocol: Option<Box<str>>,
    /// Those agreed on.
    pub extensions: Option<Box<str>>,
}

/// How a session ended.
#[derive(Debug, Clone, Copy)]
pub struct SessionEnd {
    /// Since it opened.
    pub duration: Duration,
    /// What passed towards the backend.
    pub from_client: FrameCounts,
    /// What passed towards the client.
    pub from_backend: FrameCounts,
    /// The close code that ended it, if there was one.
    pub code: Option<u16>,
    /// "client", "backend", "lockgate" or "operator".
    pub by: &'static str,
    /// A word of a closed set.
    pub why: &'static str,
}

/// A request that did not become a session.
#[derive(Debug, Clone, Copy)]
pub struct RequestRecord<'a> {
    /// Unmapped.
    pub client: IpAddr,
    /// "1.1" or "2".
    pub http: &'static str,
    /// The method.
    pub method: &'a str,
    /// As the client wrote it, or "" if there was none.
    pub host: &'a str,
    /// Without the query.
    pub path: &'a str,
    /// The route's name, if one matched.
    pub route: Option<&'a str>,
    /// The backend's address, if one was chosen.
    pub backend: Option<&'a str>,
    /// The answer's status.
    pub status: u16,
    /// Until the answer's head.
    pub duration: Duration,
    /// For refusals: a word of a closed set.
    pub why: Option<&'static str>,
}

/// What there is to tell.
#[derive(Clone, Copy)]
enum AccessEvent<'a> {
    Open(&'a SessionRecord),
    Close(&'a SessionRecord, &'a SessionEnd),
    Request(&'a RequestRecord<'a>),
}

// === impl AccessLog ===

impl AccessLog {
    /// Opens what `access` names. A file is appended to and kept open: rotate it with logrotate's `copytruncate`.
    /// Lines that find the queue full are lost, which a WARN tells.
    pub fn open(access: &Access, format: LogFormat) -> io::Result<(AccessLog, LogGuard)> {
        Ok(match access {
            Access::Off => (AccessLog { out: None, format }, LogGuard::idle()),
            Access::Stdout => AccessLog::to(io::stdout(), format),
            Access::File(path) => {
                let file = OpenOptions::new().append(true).create(true).open(path);
                let file = file.map_err(|error| {
                    let told = format!("server.access = {:?}: {error}", path.display().to_string());
                    io::Error::new(error.kind(), told)
                })?;
                AccessLog::to(file, format)
            }
        })
    }

    fn to(writer: impl Write + Send + 'static, format: LogFormat) -> (AccessLog, LogGuard) {
        let (out, guard) = queue::spawn_writer(writer, "access", queue::QUEUE_CAPACITY);
        (
            AccessLog {
                out: Some(out),
                format,
            },
            guard,
        )
    }

    /// A session opened.
    pub fn opened(&self, session: &SessionRecord) {
        self.write(AccessEvent::Open(session));
    }

    /// A session closed.
    pub fn closed(&self, session: &SessionRecord, end: &SessionEnd) {
        self.write(AccessEvent::Close(session, end));
    }

    /// A request was answered.
    pub fn request(&self, request: &RequestRecord<'_>) {
        self.write(AccessEvent::Request(request));
    }

    fn write(&self, event: AccessEvent<'_>) {
        let Some(out) = &self.out else { return };
        let line = event.line(self.format, SystemTime::now());
        // The head of the queue takes every line or counts it as lost.
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

/// What stands in a line of a string from the wire: all of it, or its beginning and "…".
fn cut(value: &str) -> Cow<'_, str> {
    if value.len() <= MAX_FIELD_CHARS {
        return Cow::Borrowed(value);
    }
    match value.char_indices().nth(MAX_FIELD_CHARS) {
        None => Cow::Borrowed(value),
        Some((end, _)) => Cow::Owned(format!("{}…", value.split_at(end).0)),
    }
}

/// A head may have 16 KiB, a queued line should not.
const MAX_FIELD_CHARS: usize = 1024;

#[cfg(test)]
mod tests;
