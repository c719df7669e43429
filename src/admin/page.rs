//! The responses of the admin API.

use http_body_util::{BodyExt, Full, combinators::UnsyncBoxBody};
use hyper::{StatusCode, body::Bytes};
use serde::Serialize;
use std::convert::Infallible;

pub(super) struct AdminResponse {
    pub(super) status: StatusCode,
    pub(super) kind: &'static str,
    pub(super) body: UnsyncBoxBody<Bytes, Infallible>,
}

// === impl AdminResponse ===

impl AdminResponse {
    pub(super) fn line(status: StatusCode, text: &str) -> Self {
        AdminResponse {
            status,
            ..AdminResponse::text("text/plain; charset=utf-8", format!("{text}\n"))
        }
    }

    /// Returns a 400 response with `text` as its body.
    pub(super) fn bad(text: &str) -> Self {
        AdminResponse::line(StatusCode::BAD_REQUEST, text)
    }

    pub(super) fn json(value: &impl Serialize) -> Self {
        let text = serde_json::to_string(value).expect("a reply is strings and numbers");
        AdminResponse::text("application/json", text)
    }

    pub(super) fn text(kind: &'static str, text: String) -> Self {
        AdminResponse {
            status: StatusCode::OK,
            kind,
            body: Full::from(text).boxed_unsync(),
        }
    }
}
