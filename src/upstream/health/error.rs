//! The error of a health check.

use crate::net::dial::DialError;
use http::StatusCode;
use std::time::Duration;
use tokio_tungstenite::tungstenite;

/// Why a health check failed.
#[derive(Debug, thiserror::Error)]
pub(crate) enum CheckError {
    #[error(transparent)]
    Dial(#[from] DialError),
    #[error("no answer within {0:?} (health.timeout)")]
    Timeout(Duration),
    #[error(
        "the answer to a WebSocket handshake was {0} (health.path must be one where the server accepts WebSockets; \
         otherwise write check = \"http\" or \"tcp\")"
    )]
    Refused(StatusCode),
    #[error("invalid answer to a WebSocket handshake")]
    Handshake(#[source] Box<tungstenite::Error>),
    #[error("the answer to GET {0} was {1}")]
    Status(Box<str>, StatusCode),
    #[error("no HTTP answer")]
    Broken(#[from] hyper::Error),
}

// === impl CheckError ===

impl CheckError {
    /// Returns whether the cause is exhausted resources of this process or machine, not the backend.
    pub(crate) fn is_exhaustion(&self) -> bool {
        matches!(self, CheckError::Dial(error) if error.is_exhaustion())
    }
}
