//! Guards: checks that run after routing. A guard admits a request or refuses it. Guards are pure; the status line and
//! the log of a refusal are in `http`.

pub(crate) mod address;
pub(crate) mod origin;

/// A refusal by a guard: 403, the client's fault.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{text}")]
pub struct Denial {
    /// The guard that refused.
    pub why: DenialReason,
    /// The body of the response: what was refused, and the key that decides it. Plain text; it contains values that the
    /// client sent.
    pub text: String,
}

/// Why a guard refused a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum DenialReason {
    /// The client's address is not within `allow`, or is within `deny`.
    Address,
    /// The `Origin` is not within `origins`.
    Origin,
}

// === impl DenialReason ===

impl DenialReason {
    /// Returns a word of a closed set for logs and metric labels.
    pub fn as_str(self) -> &'static str {
        match self {
            DenialReason::Address => "address",
            DenialReason::Origin => "origin",
        }
    }
}
