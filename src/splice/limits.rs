//! The limits and timers of a session, as plain values.

use crate::{
    proto::frame_tracker::Bounds,
    splice::{backpressure::SlowReaderPolicy, keepalive::PingPolicy, rate_limit::RateLimit},
};
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
