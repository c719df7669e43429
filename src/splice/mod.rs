//! The relay loop: two legs, one task, frames relayed verbatim until an [`Outcome`].
//!
//! This module contains the relay and the session rules of RFC 6455 that it needs: which leg receives which Close,
//! liveness, back-pressure. The handshake that creates the legs is in `http`, and frame parsing is in `proto`.

pub(crate) mod backpressure;
pub(crate) mod close;
pub(crate) mod deflate;
pub(crate) mod keepalive;
pub(crate) mod leg;
pub(crate) mod outcome;
pub(crate) mod pump;
pub(crate) mod rate_limit;
pub(crate) mod session;
pub(crate) mod tap;
pub(crate) mod timer;

use crate::{proto::frame_tracker::Bounds, splice::rate_limit::RateLimit};
use std::time::Duration;

/// The limits of a route's sessions. They are sent over a `watch` channel, so that a reload reaches open sessions.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct SessionLimits {
    /// Size bounds on frames and messages, in both directions.
    pub bounds: Bounds,
    /// Rate limit on the client.
    pub rate: RateLimit,
    /// Maximum time from the first reason to close until the end of the session.
    pub close_timeout: Duration,
    /// Keepalive of the client leg; `None`: no Pings are sent.
    pub client_ping: Option<PingPolicy>,
    /// Keepalive of the backend leg; `None`: no Pings are sent.
    pub backend_ping: Option<PingPolicy>,
    /// Maximum age of a session, and the close code used when it is reached.
    pub max_age: Option<(Duration, u16)>,
    /// Maximum time without application data in either direction; `None`: no limit.
    pub max_idle: Option<Duration>,
    /// Handling of a peer that does not read; `None`: it is neither closed nor counted.
    pub slow_reader: Option<SlowReaderPolicy>,
    /// A backend's Ping is answered by Lockgate if the client was alive within this time; `None`: never.
    pub answer_backend_ping: Option<Duration>,
    /// Close code sent to a client whose backend connection was lost or must be closed (RFC 6455 §7.4.1).
    pub backend_gone_code: u16,
}

/// Handling of a peer that accepts no bytes although bytes are pending for it.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct SlowReaderPolicy {
    /// Time without progress; it restarts whenever the kernel accepts bytes for the peer.
    pub after: Duration,
    /// Whether the session is closed; otherwise the peer is only counted.
    pub close: bool,
}

/// When a Ping is sent to a silent peer, and when the peer is considered dead.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct PingPolicy {
    /// Silence after which a Ping is sent.
    pub interval: Duration,
    /// Further silence after which the peer is considered dead.
    pub timeout: Duration,
}

#[cfg(test)]
mod tests;
