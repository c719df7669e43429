//! The hot loop: two legs, one task, frames relayed verbatim until an [`Outcome`].
//!
//! What lives here: the relay and the session rules of RFC 6455 that follow from it (who gets which Close, liveness,
//! back-pressure). What does not: where the legs came from (`http`), and what a frame is (`proto`).

mod farewell;
mod leg;
mod meter;
mod offload;
mod outcome;
mod pulse;
mod pump;
mod random;
mod session;
mod strain;
mod stream;
mod tap;
#[cfg(test)]
mod tests;

use crate::proto::track::Bounds;
pub use leg::{Socket, Transport};
pub use meter::{OverRateAction, RateLimit};
pub use offload::DeflateStream;
pub use outcome::{EndReason, Initiator, Outcome};
pub use session::{SpliceLegs, run};
use std::time::Duration;
pub use stream::BackendStream;

/// A route's limits as plain values. They travel in a `watch`, so that a reload reaches sessions that are open.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct SessionLimits {
    /// What one frame and one message may carry, in both directions.
    pub bounds: Bounds,
    /// How much a client may send.
    pub rate: RateLimit,
    /// From the first Close to the end, whatever the peers do.
    pub close_timeout: Duration,
    /// Liveness of the client leg; `None`: never asked.
    pub client_ping: Option<PingPolicy>,
    /// Liveness of the backend leg; `None`: never asked.
    pub backend_ping: Option<PingPolicy>,
    /// How long a session may last, and with which code it is closed then.
    pub max_age: Option<(Duration, u16)>,
    /// How long a session may be without application data, in both directions; `None`: for ever.
    pub max_idle: Option<Duration>,
    /// What becomes of a peer that does not read; `None`: nothing, and it is not counted either.
    pub slow_reader: Option<SlowReaderPolicy>,
    /// A backend's Ping is answered here if its client gave a sign of life not longer ago than this; `None`: never.
    pub answer_backend_ping: Option<Duration>,
    /// What a client is told when its backend died (RFC 6455 §7.4.1).
    pub backend_gone_code: u16,
}

/// A peer that takes nothing though bytes wait for it.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct SlowReaderPolicy {
    /// For so long; it begins anew with each byte that its kernel takes.
    pub after: Duration,
    /// Its session is closed; or else it is only counted.
    pub close: bool,
}

/// When a silent peer is asked, and when it is given up.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct PingPolicy {
    /// Silence before a Ping.
    pub interval: Duration,
    /// Silence after it.
    pub timeout: Duration,
}
