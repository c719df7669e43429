//! Who may pass: each guard looks at a request for a route that was found, and refuses it or says nothing. Pure; the
//! status line and the log of a refusal are `http`'s.

mod address;
mod origin;

pub use address::{AddressGuard, subnet_key};
pub use origin::OriginGuard;

/// A request that may not pass: 403, the client's fault.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{text}")]
pub struct Denial {
    /// Which guard refused: `origin` or `address`. A closed set, for metrics and the access log.
    pub why: &'static str,
    /// The body of the answer: what was refused and which key decides it. Plain text; it repeats what the client sent.
    pub text: String,
}
