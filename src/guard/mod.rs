//! Guards: checks that run after routing. A guard admits a request or refuses it. `address` and `origin` are pure;
//! `identity` runs the guards of `[guards.NAME]`, which may ask other services: `jwt` and `jwks` verify tokens,
//! `forward_auth` asks an authority (`authority`), also during a session (`recheck`), and `basic` verifies passwords
//! (`htpasswd`, `password_checks`). `trust` has the CAs of such services. `authorization` has what they receive and
//! return. The log of a refusal is in `http`.

pub(crate) mod address;
pub(crate) mod authority;
pub(crate) mod authorization;
pub(crate) mod basic;
pub(crate) mod forward_auth;
pub(crate) mod htpasswd;
pub(crate) mod identity;
pub(crate) mod jwks;
pub(crate) mod jwt;
pub(crate) mod origin;
pub(crate) mod password_checks;
pub(crate) mod recheck;
pub(crate) mod trust;
pub(crate) mod unique_json;

use ::http::{HeaderName, HeaderValue, StatusCode};
use bytes::Bytes;
use std::sync::Arc;

/// A refusal by a guard.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{text}")]
pub struct Denial {
    /// The guard that refused.
    pub why: DenialReason,
    /// The status of the response: 403 for an address or origin.
    pub status: StatusCode,
    /// The body of the response: what was refused, and the key that decides it. Plain text; it contains values that the
    /// client sent, but no token and no password.
    pub text: String,
    /// The guard of `[guards]` that refused, if it is one of them.
    pub guard: Option<Arc<str>>,
    /// Further headers of the response.
    pub headers: Vec<(HeaderName, HeaderValue)>,
    /// The body of the response instead of `text`, if an authority has sent it; `headers` has its type.
    pub body: Option<Bytes>,
}

/// Why a guard refused a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum DenialReason {
    /// The client's address is not within `allow`, or is within `deny`.
    Address,
    /// The `Origin` is not within `origins`.
    Origin,
    /// The token is absent, invalid or lacks a claim.
    Jwt,
    /// The service that was asked refused the client.
    ForwardAuth,
    /// The user name or the password is absent or wrong.
    Basic,
    /// The issuer of tokens, or the service that must be asked, gave no usable answer.
    Authority,
}

// === impl Denial ===

impl Denial {
    /// Creates a 403.
    pub(crate) fn forbidden(why: DenialReason, text: impl Into<String>) -> Denial {
        Denial::new(StatusCode::FORBIDDEN, why, text)
    }

    /// Creates a denial without further headers.
    pub(crate) fn new(status: StatusCode, why: DenialReason, text: impl Into<String>) -> Denial {
        Denial {
            why,
            status,
            text: text.into(),
            guard: None,
            headers: Vec::new(),
            body: None,
        }
    }

    /// Adds a header to the response.
    pub(crate) fn with(mut self, name: HeaderName, value: HeaderValue) -> Denial {
        self.headers.push((name, value));
        self
    }
}

// === impl DenialReason ===

impl DenialReason {
    /// Returns a word of a closed set for logs and metric labels.
    pub fn as_str(self) -> &'static str {
        match self {
            DenialReason::Address => "address",
            DenialReason::Origin => "origin",
            DenialReason::Jwt => "jwt",
            DenialReason::ForwardAuth => "forward-auth",
            DenialReason::Basic => "basic",
            DenialReason::Authority => "authority",
        }
    }
}
