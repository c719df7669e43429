//! What is answered.

use hyper::StatusCode;
use serde::Serialize;

pub(super) struct Page {
    pub(super) status: StatusCode,
    pub(super) kind: &'static str,
    pub(super) text: String,
}

// === impl Page ===

impl Page {
    pub(super) fn line(status: StatusCode, text: &str) -> Self {
        Page {
            status,
            kind: "text/plain; charset=utf-8",
            text: format!("{text}\n"),
        }
    }

    /// Whoever asked is to ask otherwise.
    pub(super) fn bad(text: &str) -> Self {
        Page::line(StatusCode::BAD_REQUEST, text)
    }

    pub(super) fn json(value: &impl Serialize) -> Self {
        Page {
            status: StatusCode::OK,
            kind: "application/json",
            text: serde_json::to_string(value).expect("a reply is strings and numbers"),
        }
    }
}
