//! The access log: one record per request, two per session (open and close). Records never contain the query, which may
//! carry secrets. The records are in `access/record.rs`, the line formats in `access/text.rs` and `access/json.rs`.

pub(crate) mod json;
pub(crate) mod record;
pub(crate) mod text;

use crate::{
    config::{Access, LogFormat},
    observe::{
        access::record::{AccessEvent, RequestRecord, SessionEnd, SessionRecord},
        async_writer::{self, LogGuard},
    },
};
use std::{
    fs::OpenOptions,
    io::{self, Write},
    time::SystemTime,
};
use tracing_appender::non_blocking::NonBlocking;

/// The access log. Writing never blocks; clones share one writer.
#[derive(Debug, Clone)]
pub struct AccessLog {
    out: Option<NonBlocking>,
    format: LogFormat,
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
        let line = line(event, self.format, SystemTime::now());
        // The queue accepts every line, or counts it as lost.
        let _ = out.clone().write_all(line.as_bytes());
    }
}

fn line(event: AccessEvent<'_>, format: LogFormat, at: SystemTime) -> String {
    match format {
        LogFormat::Text => text::line(event, at),
        LogFormat::Json => json::line(event, at),
    }
}

#[cfg(test)]
mod tests;
