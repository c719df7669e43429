//! How a session ended. Never an error: every session ends.

use crate::proto::track::{FrameCounts, Violation};
use tokio::time::Instant;

/// The end of a session, for the access log and the metrics.
#[derive(Debug, Clone, Copy)]
pub struct Outcome {
    /// Whose doing it was.
    pub by: Initiator,
    /// What happened.
    pub why: EndReason,
    /// The close code of that end: relayed, or ours. `None` for a Close without a code.
    pub code: Option<u16>,
    /// What came from the client.
    pub from_client: FrameCounts,
    /// What came from the backend.
    pub from_backend: FrameCounts,
    /// When the last frame had passed; what follows is only the farewell of TLS and TCP.
    pub ended: Instant,
}

/// Who ended a session.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Initiator {
    /// The client leg.
    Client,
    /// The backend leg.
    Backend,
    /// We did, by order: a drain or a shutdown.
    Lockgate,
    /// An operator did, who picked this session.
    Operator,
}

/// Why a session ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum EndReason {
    /// A Close was relayed.
    Closed,
    /// The stream ended without a Close.
    Gone,
    /// The stream ended inside a frame.
    Truncated,
    /// No sign of life within `ping.interval` + `ping.timeout`.
    PingTimeout,
    /// A frame that may not pass.
    Violation(Violation),
    /// The client sent more than it may.
    OverRate,
    /// The peer read nothing for too long.
    SlowReader,
    /// No application data for too long.
    MaxIdle,
    /// An order from above: a drain or a shutdown.
    Ordered,
    /// It has lasted as long as it may.
    MaxAge,
}

// === impl Initiator ===

impl Initiator {
    /// A word of a closed set, for logs and metric labels.
    pub fn as_str(self) -> &'static str {
        match self {
            Initiator::Client => "client",
            Initiator::Backend => "backend",
            Initiator::Lockgate => "lockgate",
            Initiator::Operator => "operator",
        }
    }
}

// === impl EndReason ===

impl EndReason {
    /// A word of a closed set, for logs and metric labels.
    pub fn as_str(self) -> &'static str {
        match self {
            EndReason::Closed => "closed",
            EndReason::Gone => "gone",
            EndReason::Truncated => "cut",
            EndReason::PingTimeout => "ping-timeout",
            EndReason::Violation(violation) => violation.as_str(),
            EndReason::OverRate => "over-rate",
            EndReason::SlowReader => "slow-reader",
            EndReason::MaxIdle => "max-idle",
            EndReason::Ordered => "ordered",
            EndReason::MaxAge => "max-age",
        }
    }
}
