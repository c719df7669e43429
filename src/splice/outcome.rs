//! The outcome of a session. It is not an error type, because every session ends.

use crate::{
    proto::frame_tracker::{FrameCounts, Violation},
    registry::{OrderCause, traffic::LegSide},
};
use tokio::time::Instant;

/// The end of a session, as the access log and the metrics report it.
#[derive(Debug, Clone, Copy)]
pub struct Outcome {
    /// The party that ended the session.
    pub by: Initiator,
    /// Why it ended.
    pub why: EndReason,
    /// The close code, relayed or ours. `None` for a Close without a code, and if no Close could be sent because a leg
    /// was lost in the middle of a frame.
    pub code: Option<u16>,
    /// How the configuration decides about this end, if the reason alone does not show it.
    pub hint: Option<&'static str>,
    /// Frames relayed from the client to the backend.
    pub from_client: FrameCounts,
    /// Frames relayed from the backend to the client.
    pub from_backend: FrameCounts,
    /// When relaying ended; only the lingering close of TLS and TCP follows.
    pub ended: Instant,
}

/// The party that ended a session.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Initiator {
    /// The client leg.
    Client,
    /// The backend leg.
    Backend,
    /// Lockgate: a close order, an age or idle limit.
    Lockgate,
    /// An operator, by a command that closes this session.
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
    /// The peer was silent for `ping.interval` and then `ping.timeout`.
    PingTimeout,
    /// A frame violated RFC 6455 or a limit.
    Violation(Violation),
    /// The client exceeded its rate limit.
    OverRate,
    /// The peer read nothing for too long.
    SlowReader,
    /// No application data for too long.
    MaxIdle,
    /// A close order.
    Ordered,
    /// The session reached its maximum age.
    MaxAge,
    /// The token of the session expired.
    Expired,
    /// The authority no longer admits the client.
    Revoked,
    /// The authority did not answer for too long.
    AuthoritySilent,
}

// === impl Outcome ===

impl Outcome {
    /// Returns the hint for a session that ended for this reason. `refused_pong`: the violation is in a Pong.
    pub(crate) fn hint(why: EndReason, refused_pong: bool) -> Option<&'static str> {
        match why {
            EndReason::PingTimeout => Some(
                "session.ping.legs selects the peers that get Pings, session.ping.timeout is the time for the answer",
            ),
            EndReason::Violation(_) if refused_pong => {
                Some("the frame is a Pong: session.ping.legs selects the peers that get Pings")
            }
            _ => None,
        }
    }
}

// === impl EndReason ===

impl From<OrderCause> for EndReason {
    fn from(cause: OrderCause) -> Self {
        match cause {
            OrderCause::Lockgate | OrderCause::Operator => EndReason::Ordered,
            OrderCause::Expired => EndReason::Expired,
            OrderCause::Revoked => EndReason::Revoked,
            OrderCause::AuthoritySilent => EndReason::AuthoritySilent,
        }
    }
}

// === impl Initiator ===

impl Initiator {
    /// Returns a word of a closed set for logs and metric labels.
    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Initiator::Client => "client",
            Initiator::Backend => "backend",
            Initiator::Lockgate => "lockgate",
            Initiator::Operator => "operator",
        }
    }
}

impl From<LegSide> for Initiator {
    fn from(leg: LegSide) -> Self {
        match leg {
            LegSide::Client => Initiator::Client,
            LegSide::Backend => Initiator::Backend,
        }
    }
}

// === impl EndReason ===

impl EndReason {
    /// Returns a word of a closed set for logs and metric labels.
    pub(crate) fn as_str(self) -> &'static str {
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
            EndReason::Expired => "expired",
            EndReason::Revoked => "revoked",
            EndReason::AuthoritySilent => "authority",
        }
    }
}
