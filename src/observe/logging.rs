//! The log: written to stderr through a queue, so that a paused terminal never blocks a connection. Also formats errors
//! with their sources for log lines ([`ErrorChain`]).

use crate::{
    config::{Log, LogFormat, LogLevel},
    observe::async_writer::{self, LogGuard},
};
use std::{
    env,
    error::Error,
    fmt,
    io::{self, IsTerminal},
};
use tracing::Subscriber;
use tracing_appender::non_blocking::NonBlocking;
use tracing_subscriber::{EnvFilter, filter::ParseError, util::SubscriberInitExt};

/// An error that prevents the log from starting.
#[derive(Debug, thiserror::Error)]
pub(crate) enum InitError {
    /// The environment variable is not a list of `tracing` directives.
    #[error(
        "RUST_LOG={0:?} is not a valid filter: write for example \"lockgate=debug\", or unset it to use server.log.level"
    )]
    Directives(String, #[source] ParseError),
    /// The process already has a log.
    #[error("the log has already been started")]
    AlreadyStarted(#[source] tracing_subscriber::util::TryInitError),
}

/// Starts the log of the process. `RUST_LOG`, if set, overrides `server.log.level`.
pub(crate) fn init(log: &Log) -> Result<LogGuard, InitError> {
    let filter = filter(log.level, env::var("RUST_LOG").ok())?;
    let (out, guard) =
        async_writer::spawn_writer(io::stderr(), "log", async_writer::QUEUE_CAPACITY);
    // https://no-color.org
    let colours =
        io::stderr().is_terminal() && env::var_os("NO_COLOR").is_none_or(|value| value.is_empty());
    subscriber(log.format, filter, out, colours)
        .try_init()
        .map_err(InitError::AlreadyStarted)?;
    Ok(guard)
}

fn filter(level: LogLevel, directives: Option<String>) -> Result<EnvFilter, InitError> {
    let directives = match directives {
        Some(directives) if !directives.trim().is_empty() => directives,
        // Dependencies warn about client behaviour (rustls about alerts): clients must not be able to fill the log.
        _ => format!("error,lockgate={}", level_str(level)),
    };
    EnvFilter::try_new(&directives).map_err(|source| InitError::Directives(directives, source))
}

fn subscriber(
    format: LogFormat,
    filter: EnvFilter,
    out: NonBlocking,
    colours: bool,
) -> Box<dyn Subscriber + Send + Sync> {
    let builder = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(out)
        .with_ansi(colours);
    match format {
        LogFormat::Text => Box::new(builder.finish()),
        LogFormat::Json => Box::new(builder.json().flatten_event(true).finish()),
    }
}

fn level_str(level: LogLevel) -> &'static str {
    match level {
        LogLevel::Error => "error",
        LogLevel::Warn => "warn",
        LogLevel::Info => "info",
        LogLevel::Debug => "debug",
        LogLevel::Trace => "trace",
    }
}

/// An error whose `Display` also prints its sources, separated by ": ". A question for the reader, such as "is the
/// backend running?", follows the cause.
#[derive(Debug, Clone, Copy)]
pub(crate) struct ErrorChain<'a>(pub &'a (dyn Error + 'static));

impl fmt::Display for ErrorChain<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut questions = Vec::new();
        let (mut error, mut separator) = (Some(self.0), "");
        while let Some(current) = error {
            error = current.source();
            let text = current.to_string();
            match question(&text).filter(|_| error.is_some()) {
                Some((statement, question)) => {
                    write!(f, "{separator}{statement}")?;
                    questions.push(question.to_owned());
                }
                None => write!(f, "{separator}{text}")?,
            }
            separator = ": ";
        }
        for question in questions.iter().rev() {
            write!(f, "; {question}")?;
        }
        Ok(())
    }
}

/// Splits an error into its statement and the question at its end, which follows a colon or a semicolon.
fn question(text: &str) -> Option<(&str, &str)> {
    if !text.ends_with('?') {
        return None;
    }
    let at = text.rfind(": ").max(text.rfind("; "))?;
    Some((&text[..at], &text[at + 2..]))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::observe::{logging, testing::Memory};
    use tracing::{debug, info, subscriber, warn};

    fn written(log: Log, directives: Option<&str>) -> String {
        let memory = Memory::default();
        let (out, guard) =
            async_writer::spawn_writer(memory.clone(), "log", async_writer::QUEUE_CAPACITY);
        let filter = filter(log.level, directives.map(str::to_owned)).unwrap();
        subscriber::with_default(logging::subscriber(log.format, filter, out, false), || {
            debug!("a detail");
            info!(client = "203.0.113.7", lost = 3, "a fact");
            warn!(target: "rustls::common_state", "a client alert");
        });
        drop(guard);
        memory.text()
    }

    const TEXT: Log = Log {
        level: LogLevel::Info,
        format: LogFormat::Text,
    };

    #[test]
    fn level_applies_to_lockgate_lines_only() {
        let text = written(TEXT, None);
        assert!(
            text.ends_with("a fact client=\"203.0.113.7\" lost=3\n"),
            "{text}"
        );
        assert_eq!(text.lines().count(), 1, "{text}");
        let text = written(
            Log {
                level: LogLevel::Debug,
                ..TEXT
            },
            None,
        );
        assert_eq!(text.lines().count(), 2, "{text}");
        let text = written(
            Log {
                level: LogLevel::Warn,
                ..TEXT
            },
            None,
        );
        assert_eq!(text, "");
    }

    #[test]
    fn rust_log_overrides_the_level_unless_empty() {
        assert_eq!(
            written(TEXT, Some("lockgate=debug,rustls=warn"))
                .lines()
                .count(),
            3
        );
        assert_eq!(written(TEXT, Some(" ")).lines().count(), 1);
        let error = filter(LogLevel::Info, Some("lockgate=loud".to_owned())).unwrap_err();
        assert!(
            error.to_string().contains("RUST_LOG=\"lockgate=loud\""),
            "{error}"
        );
    }

    #[test]
    fn json_line_is_one_object_with_numeric_fields() {
        let json = Log {
            format: LogFormat::Json,
            ..TEXT
        };
        let line: serde_json::Value = serde_json::from_str(&written(json, None)).unwrap();
        assert_eq!(line["level"], "INFO");
        assert_eq!(line["message"], "a fact");
        assert_eq!(line["lost"], 3);
    }

    #[test]
    fn display_includes_all_sources() {
        #[derive(Debug, thiserror::Error)]
        #[error("no connection")]
        struct Outer(#[source] io::Error);
        let error = Outer(io::Error::other("refused"));
        assert_eq!(ErrorChain(&error).to_string(), "no connection: refused");

        #[derive(Debug, thiserror::Error)]
        #[error("cannot connect to a:1: does it run?")]
        struct Asking(#[source] Outer);
        let error = Asking(error);
        assert_eq!(
            ErrorChain(&error).to_string(),
            "cannot connect to a:1: no connection: refused; does it run?"
        );
    }
}
