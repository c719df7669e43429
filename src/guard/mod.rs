//! Guards: checks that run after routing. A guard admits a request or refuses it. Guards are pure; the status line and
//! the log of a refusal are in `http`.

pub(crate) mod address;
pub(crate) mod origin;

/// A refusal by a guard: 403, the client's fault.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{text}")]
pub struct Denial {
    /// The guard that refused: `origin` or `address`. A closed set, for metrics and the access log.
    pub why: &'static str,
    /// The body of the response: what was refused, and the key that decides it. Plain text; it contains values that the
    /// client sent.
    pub text: String,
}
