//! The response to one admin request.

use crate::observe::logging::ErrorChain;
use http_body_util::{BodyExt, Full, combinators::UnsyncBoxBody};
use hyper::{StatusCode, body::Bytes};
use serde::Serialize;
use std::{convert::Infallible, error::Error};

/// Status, media type and body of a response.
pub(crate) struct AdminResponse {
    pub(crate) status: StatusCode,
    pub(crate) kind: &'static str,
    pub(crate) body: UnsyncBoxBody<Bytes, Infallible>,
}

// === impl AdminResponse ===

impl AdminResponse {
    /// Returns a response with one line of text.
    pub(crate) fn line(status: StatusCode, text: &str) -> Self {
        AdminResponse {
            status,
            ..AdminResponse::text("text/plain; charset=utf-8", format!("{text}\n"))
        }
    }

    /// Returns a 409 response with the error and its sources: the state of the server does not permit the request.
    pub(crate) fn conflict(error: &(dyn Error + 'static)) -> Self {
        AdminResponse::line(StatusCode::CONFLICT, &ErrorChain(error).to_string())
    }

    /// Returns a 400 response with `text` as its body.
    pub(crate) fn bad(text: &str) -> Self {
        AdminResponse::line(StatusCode::BAD_REQUEST, text)
    }

    /// Returns a 200 response with the value as JSON.
    pub(crate) fn json(value: &impl Serialize) -> Self {
        let text = serde_json::to_string(value).expect("a reply is strings and numbers");
        AdminResponse::text("application/json", text)
    }

    /// Returns a 200 response with a body of this media type.
    pub(crate) fn text(kind: &'static str, text: String) -> Self {
        AdminResponse {
            status: StatusCode::OK,
            kind,
            body: Full::from(text).boxed_unsync(),
        }
    }
}
