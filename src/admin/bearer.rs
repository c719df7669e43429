//! Checks the bearer token of an admin request, if one is configured (RFC 6750 §2.1).

use crate::config::Secret;
use aws_lc_rs::{
    constant_time::verify_slices_are_equal,
    digest::{SHA256, digest},
};
use hyper::{
    HeaderMap,
    header::{AUTHORIZATION, HeaderValue},
};

/// Returns whether `headers` carry `token`; an empty `token` accepts any.
/// The comparison's duration reveals neither the token nor its length.
pub(super) fn has_token(headers: &HeaderMap, token: &Secret) -> bool {
    if token.expose().is_empty() {
        return true;
    }
    let mut all = headers.get_all(AUTHORIZATION).into_iter();
    let (Some(presented), None) = (all.next().and_then(bearer), all.next()) else {
        return false;
    };
    let (presented, expected) = (
        digest(&SHA256, presented),
        digest(&SHA256, token.expose().as_bytes()),
    );
    verify_slices_are_equal(presented.as_ref(), expected.as_ref()).is_ok()
}

/// Extracts the token; the scheme is case-insensitive (RFC 9110 §11.1).
fn bearer(value: &HeaderValue) -> Option<&[u8]> {
    let (scheme, token) = value.as_bytes().split_at_checked(SCHEME.len())?;
    scheme
        .eq_ignore_ascii_case(SCHEME)
        .then(|| token.trim_ascii())
}

const SCHEME: &[u8] = b"Bearer ";
