//! The hot loop: two legs, one task, frames relayed verbatim until an [`Outcome`].
//!
//! What lives here: the relay and the session rules of RFC 6455 that follow from it (who gets which Close, liveness,
//! back-pressure). What does not: where the legs came from (`http`), and what a frame is (`proto`).

mod farewell;
mod leg;
mod offload;
mod outcome;
mod pulse;
mod pump;
mod random;
mod session;
mod stream;
mod tap;
#[cfg(test)]
mod tests;

use crate::proto::track::Bounds;
pub use leg::{LegIo, Socket};
pub use offload::Offload;
pub use outcome::{Outcome, Side, Why};
pub use session::{Legs, run};
use std::time::Duration;
pub use stream::Stream;

/// A route's limits as plain values. They travel in a `watch`, so that a reload reaches sessions that are open.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Limits {
    /// What one frame and one message may carry, in both directions.
    pub bounds: Bounds,
    /// From the first Close to the end, whatever the peers do.
    pub close_timeout: Duration,
    /// Liveness of the client leg; `None`: never asked.
    pub client_ping: Option<PingPolicy>,
    /// Liveness of the backend leg; `None`: never asked.
    pub backend_ping: Option<PingPolicy>,
    /// How long a session may last, and with which code it is closed then.
    pub max_age: Option<(Duration, u16)>,
    /// What a client is told when its backend died (RFC 6455 §7.4.1).
    pub backend_gone_code: u16,
}

/// When a silent peer is asked, and when it is given up.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct PingPolicy {
    /// Silence before a Ping.
    pub interval: Duration,
    /// Silence after it.
    pub timeout: Duration,
}
