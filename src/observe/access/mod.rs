//! The access log: one record per request, two per session (open and close). Records never contain the query, which may
//! carry secrets. The records are in `access/record.rs`, the line formats in `access/text.rs` and `access/json.rs`, the
//! file and its rotation in `access/file.rs`, and the limit on lines of refused requests in `access/throttle.rs`.

pub(crate) mod file;
pub(crate) mod json;
pub(crate) mod record;
pub(crate) mod text;
pub(crate) mod throttle;

use crate::{
    config::{Access, LogFormat},
    observe::{
        access::{
            file::{FileReopener, LogFile},
            record::{AccessEvent, RequestRecord, SessionEnd, SessionFacts},
            throttle::RefusalThrottle,
        },
        async_writer::{self, LogGuard},
    },
};
use std::{
    io::{self, Write},
    path::PathBuf,
    sync::Arc,
    time::SystemTime,
};
use tracing_appender::non_blocking::NonBlocking;

/// The access log. Writing never blocks; clones share one writer.
#[derive(Debug, Clone)]
pub struct AccessLog {
    out: Option<NonBlocking>,
    /// `None` if the destination is not a file.
    file: Option<FileReopener>,
    format: LogFormat,
    refusals: Arc<RefusalThrottle>,
}

/// A file that cannot be opened for the access log.
#[derive(Debug, thiserror::Error)]
#[error("server.access = {:?}", .path.display().to_string())]
pub struct AccessLogError {
    path: PathBuf,
    #[source]
    source: io::Error,
}

// === impl AccessLog ===

impl AccessLog {
    /// Opens the destination named by `access`. A file is appended to, and opened again by `AccessLog::reopen` and
    /// when its path names another file. Lines that find the queue full are lost and reported with a warning.
    pub fn open(
        access: &Access,
        format: LogFormat,
    ) -> Result<(AccessLog, LogGuard), AccessLogError> {
        Ok(match access {
            Access::Off => (AccessLog::new(None, None, format), LogGuard::idle()),
            Access::Stdout => AccessLog::to(io::stdout(), None, format),
            Access::File(path) => {
                let (file, reopener) =
                    LogFile::append_to(path).map_err(|source| AccessLogError {
                        path: path.clone(),
                        source,
                    })?;
                AccessLog::to(file, Some(reopener), format)
            }
        })
    }

    fn to(
        writer: impl Write + Send + 'static,
        file: Option<FileReopener>,
        format: LogFormat,
    ) -> (AccessLog, LogGuard) {
        let (out, guard) =
            async_writer::spawn_writer(writer, "access", async_writer::QUEUE_CAPACITY);
        (AccessLog::new(Some(out), file, format), guard)
    }

    fn new(out: Option<NonBlocking>, file: Option<FileReopener>, format: LogFormat) -> Self {
        AccessLog {
            out,
            file,
            format,
            refusals: Arc::new(RefusalThrottle::new()),
        }
    }

    /// Returns the work that opens a file again after log rotation; `None` if the destination is not a file. It blocks.
    pub(crate) fn reopen(&self) -> Option<impl FnOnce() + Send + 'static> {
        let (file, mut out) = (self.file.clone()?, self.out.clone()?);
        Some(move || {
            file.reopen();
            // An empty line makes the writing thread close the previous file at once.
            let _ = out.write_all(&[]);
        })
    }

    /// Writes the line of a session that has opened.
    pub fn opened(&self, session: SessionFacts<'_>) {
        self.write(AccessEvent::Open(session));
    }

    /// Writes the line of a session that has closed.
    pub fn closed(&self, session: SessionFacts<'_>, end: &SessionEnd) {
        self.write(AccessEvent::Close(session, end));
    }

    /// Writes the line of a request that has been answered. Of the refused requests of one address, only a limited
    /// number of lines is written; the others are counted.
    pub fn request(&self, request: &RequestRecord<'_>) {
        let is_limited = request.why.is_some() && self.out.is_some();
        if !is_limited || self.refusals.allow(request.client) {
            self.write(AccessEvent::Request(request));
        }
    }

    /// Writes summaries of the lines that are left out, without end.
    pub(crate) async fn summarise_omitted(self) {
        loop {
            self.refusals.summary_due().await;
            self.write_omitted();
        }
    }

    /// Writes a summary line for each address whose lines were left out since the last one.
    pub(crate) fn write_omitted(&self) {
        for omitted in self.refusals.take_omitted() {
            self.write(AccessEvent::Omitted(&omitted));
        }
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
