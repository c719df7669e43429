//! The lingering close (RFC 9112 §9.6). A close with unread input sends a reset, which destroys a response that the
//! peer has not read yet. So a connection whose peer may still be sending is closed in one direction only, and what
//! arrives is discarded until the peer closes the other one.

use crate::net::socket::Transport;
use std::{
    future::poll_fn,
    pin::{Pin, pin},
    task::{Context, Poll, ready},
    time::Duration,
};
use tokio::time::{Instant, Sleep, sleep_until};

/// The second half of a lingering close, after the shutdown.
#[derive(Debug)]
pub(crate) struct LingeringClose(LingerLimits);

/// How long input is discarded: nginx's `lingering_timeout` and `lingering_time`.
#[derive(Debug)]
pub(crate) struct LingerLimits {
    end: Instant,
    idle_end: Instant,
    /// The bytes that may still be discarded.
    left: u64,
}

// === impl LingerLimits ===

impl LingerLimits {
    pub(crate) fn begin(now: Instant) -> Self {
        LingerLimits {
            end: now + MAX_DURATION,
            idle_end: now + MAX_IDLE,
            left: MAX_DISCARDED,
        }
    }

    /// Returns the end, regardless of what arrives.
    pub(crate) fn end(&self) -> Instant {
        self.end
    }

    /// Returns the end if nothing arrives.
    pub(crate) fn deadline(&self) -> Instant {
        self.end.min(self.idle_end)
    }

    /// Records bytes that were discarded.
    pub(crate) fn record(&mut self, bytes: u64, now: Instant) {
        self.idle_end = now + MAX_IDLE;
        self.left = self.left.saturating_sub(bytes);
    }

    /// Returns whether too many bytes were discarded.
    pub(crate) fn is_used_up(&self) -> bool {
        self.left == 0
    }
}

// === impl LingeringClose ===

impl LingeringClose {
    /// Creates it at the time of the shutdown.
    pub(crate) fn begin(now: Instant) -> Self {
        LingeringClose(LingerLimits::begin(now))
    }

    /// Ends the close at `end`, unless it ends earlier.
    pub(crate) fn end_by(&mut self, end: Instant) {
        self.0.end = self.0.end.min(end);
    }

    /// Discards input. Completes when the peer has closed the connection, or at a limit; `timer` is reset to the next
    /// one.
    pub(crate) fn poll(
        &mut self,
        cx: &mut Context<'_>,
        io: &mut impl Transport,
        mut timer: Pin<&mut Sleep>,
    ) -> Poll<()> {
        loop {
            let now = Instant::now();
            let deadline = self.0.deadline();
            if now >= deadline {
                return Poll::Ready(());
            }
            match io.poll_discard(cx) {
                Poll::Ready(Ok(read @ 1..)) => {
                    self.0.record(read as u64, now);
                    if self.0.is_used_up() {
                        return Poll::Ready(());
                    }
                }
                Poll::Ready(Ok(0) | Err(_)) => return Poll::Ready(()),
                Poll::Pending => {
                    timer.as_mut().reset(deadline);
                    ready!(timer.as_mut().poll(cx));
                }
            }
        }
    }
}

/// Discards input of a stream that has been shut down, until the peer has closed it or a limit is reached.
pub(crate) async fn linger(mut io: impl Transport) {
    let now = Instant::now();
    let mut lingering = LingeringClose::begin(now);
    let mut timer = pin!(sleep_until(now));
    poll_fn(|cx| lingering.poll(cx, &mut io, timer.as_mut())).await;
}

/// The maximum duration of a lingering close while the process stops.
pub(crate) const STOPPING_LINGER: Duration = Duration::from_secs(1);

/// The time in which the peer must have closed the connection.
const MAX_DURATION: Duration = Duration::from_secs(30);

/// The time without a byte after which the peer is assumed to have ended.
const MAX_IDLE: Duration = Duration::from_secs(5);

/// Far more than most uploads, and at most a second of work for one core.
const MAX_DISCARDED: u64 = 1 << 30;
