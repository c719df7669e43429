//! The responses of a front instead of those of Pebble.

use crate::harness::web::Failure;
use bytes::Bytes;
use http::{
    HeaderValue, Response,
    header::{CONTENT_TYPE, HeaderName, RETRY_AFTER},
};
use http_body_util::Full;
use serde_json::json;

/// A response with a complete body.
#[derive(Debug, Clone)]
pub(crate) struct Answer {
    status: u16,
    headers: Vec<(HeaderName, String)>,
    body: String,
}

// === impl Answer ===

impl Answer {
    pub(crate) fn new(status: u16, body: &str) -> Answer {
        Answer {
            status,
            headers: vec![],
            body: body.to_owned(),
        }
    }

    /// A problem document (RFC 8555 §6.7) such as `rateLimited`.
    pub(crate) fn problem(status: u16, kind: &str, detail: &str) -> Answer {
        let kind = format!("urn:ietf:params:acme:error:{kind}");
        Answer::new(status, &json!({"type": kind, "detail": detail}).to_string())
            .with(CONTENT_TYPE, "application/problem+json")
            .with(HeaderName::from_static("replay-nonce"), "b25jZQ")
    }

    /// Adds Retry-After, with seconds or a date.
    pub(crate) fn retry_after(self, value: &str) -> Answer {
        self.with(RETRY_AFTER, value)
    }

    pub(crate) fn with(mut self, name: HeaderName, value: &str) -> Answer {
        self.headers.push((name, value.to_owned()));
        self
    }

    pub(super) fn response(&self) -> Result<Response<Full<Bytes>>, Failure> {
        let mut response = Response::builder().status(self.status);
        for (name, value) in &self.headers {
            response = response.header(name, HeaderValue::from_str(value)?);
        }
        Ok(response.body(Full::from(self.body.clone()))?)
    }
}
