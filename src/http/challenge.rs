//! Responses to HTTP-01 challenges of an ACME CA, which every clear-text listener gives.

use crate::http::{
    body::{Body, text},
    context::Context,
};
use ::http::{HeaderValue, Response, header};

/// Returns the response to an HTTP-01 challenge (RFC 8555 §8.3) if one with this token is pending.
pub(crate) fn http01_response(context: &Context, path: &str) -> Option<Response<Body>> {
    let token = path.strip_prefix("/.well-known/acme-challenge/")?;
    let key_authorization = context
        .live
        .snapshot()
        .tls
        .issued
        .key_authorization(token)?;
    context.metrics.count_challenge();
    let mut response = Response::new(text(key_authorization));
    let kind = HeaderValue::from_static("application/octet-stream");
    response.headers_mut().insert(header::CONTENT_TYPE, kind);
    Some(response)
}
