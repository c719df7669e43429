//! One side of a session: its stream and the state that both pumps share.

use crate::{
    net::{
        socket::{BackendStream, Socket, Transport},
        tls_stream::ServerStream,
    },
    proto::frame_tracker::{Bounds, ControlPayload, Violation},
    splice::keepalive::Keepalive,
};
use tokio::{io::Empty, time::Instant};

/// A stream that can be a leg of a session. A stream that delivers other frames than its peer sent overrides the
/// methods, because the relay then cannot check what the peer sent.
pub trait LegIo: Transport {
    /// Returns the violation that made reading fail, if the stream detected it before the relay did.
    fn violation(&self) -> Option<Violation> {
        None
    }

    /// Applies bounds to the frames that the peer sends. Returns true if this stream checks them because it delivers
    /// converted frames.
    fn set_frame_bounds(&mut self, _: &Bounds) -> bool {
        false
    }

    /// Returns what the peer has sent since the last call and reading does not show.
    fn take_unseen(&mut self) -> Unseen {
        Unseen::default()
    }
}

/// What a peer has sent and a stream that delivers other frames does not show.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Unseen {
    /// Bytes that no read returned.
    pub bytes: u32,
    /// Frames that the peer has sent: the relay reads other ones.
    pub frames: u32,
}

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

// === impl Unseen ===

impl Unseen {
    pub(crate) fn is_empty(self) -> bool {
        self == Unseen::default()
    }
}

// === impl LegIo ===

impl LegIo for Socket {}

impl<S: Transport> LegIo for Box<ServerStream<S>> {}

impl LegIo for BackendStream {}

/// A client that disconnected before the session began.
impl LegIo for Empty {}

// === impl Leg ===

impl<S: LegIo> Leg<S> {
    /// Creates the leg; the liveness timers start at `now`.
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
