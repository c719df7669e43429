//! One side of a session.

use crate::{
    net::socket::Transport, proto::frame_tracker::ControlPayload, splice::keepalive::Keepalive,
};
use tokio::time::Instant;

/// One side of a session.
pub(crate) struct Leg<S> {
    pub(crate) io: S,
    pub(crate) keepalive: Keepalive,
    /// Whether a write failed or the peer is considered dead: further output for it is dropped.
    pub(crate) broken: bool,
    /// Whether the peer has sent its Close: the next Close is the last frame it receives.
    pub(crate) close_received: bool,
    /// The latest Ping that Lockgate must answer itself (RFC 6455 §5.5.3: the latest is enough). Boxed: it is rare.
    pub(crate) pending_pong: Option<Box<ControlPayload>>,
}

// === impl Leg ===

impl<S: Transport> Leg<S> {
    pub(crate) fn new(io: S, now: Instant) -> Self {
        let keepalive = Keepalive::new(now, io.bytes_accepted());
        Leg {
            io,
            keepalive,
            broken: false,
            close_received: false,
            pending_pong: None,
        }
    }
}
