//! One direction of a session: from `src` to `dst`, verbatim, with control frames of our own inserted between frames.
//!
//! A pump reads into a buffer that all sessions of a thread share and writes immediately. Only bytes that the kernel
//! did not accept are kept, and nothing is read until they are written. So an idle session holds no buffer, and a
//! blocked one at most one.

mod inject;
mod intake;
mod outlet;

use super::{
    RateLimit, SessionLimits,
    leg::{Leg, Transport},
    meter::Gcra,
    tap::FrameTap,
};
use crate::proto::track::{FrameCounts, FrameTracker, Role, RsvBits, Violation};
use std::task::{Context, Poll, ready};
use tokio::{task::coop, time::Instant};

/// State of one direction.
pub(super) struct Pump {
    pub(super) tracker: FrameTracker,
    /// Bytes that were read but not parsed yet: part of a header or of a control frame, so at most 130; or, if
    /// `stalled`, the rest of a read when the rate limit was reached.
    unparsed: Vec<u8>,
    stalled: bool,
    /// Bytes that `dst` has not accepted yet, from `sent` on.
    unsent: Vec<u8>,
    sent: usize,
    /// Bytes that `dst` has accepted since its last flush: TLS keeps them until its socket accepts them.
    unflushed: usize,
    /// Number of bytes that the kernel had accepted at the last flush.
    accepted_at_flush: u64,
    /// A Close of our own that waits for a frame boundary.
    pub(super) close: Option<PendingClose>,
    /// Whether a Close, relayed or ours, was sent to `dst`: further input from `src` is read, parsed and dropped.
    pub(super) close_sent: bool,
    /// Counts of the relayed frames when discarding began.
    final_counts: Option<Box<FrameCounts>>,
    /// Number of bytes discarded because `dst` cannot be written to.
    discarded: usize,
    /// Why `src` sends nothing further; `None` while it is open.
    pub(super) ended: Option<LegEnd>,
    /// Whether `src` is the client: frames of this direction are masked (RFC 6455 §5.1).
    from_client: bool,
    /// Whether `src` delivers other frames than its peer sent; bounds on the peer's own frames are checked in `src`
    /// (`set_frame_bounds`).
    bounds_elsewhere: bool,
    /// Present while a tap is attached, which is rare.
    pub(super) tap: Option<Box<FrameTap>>,
    /// Rate limit on `src`; `None`: unlimited.
    limiter: Option<Box<Gcra>>,
    /// Whether data was relayed since the last call of [`Pump::take_data_relayed`].
    data_relayed: bool,
}

/// A Close of our own that is sent with a delay, so that frames of `src` that are in flight arrive first.
#[derive(Debug)]
pub(super) struct PendingClose {
    pub(super) code: u16,
    pub(super) reason: Box<str>,
    pub(super) not_before: Instant,
    /// Whether the Close is also due when no message is open.
    pub(super) between_messages: bool,
}

/// Why a leg has ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum LegEnd {
    /// The leg sent a Close.
    Closed(Option<u16>),
    /// EOF or an error, which includes the `UnexpectedEof` of a connection dropped without close_notify.
    Gone,
    /// A frame that violates RFC 6455 or a limit.
    Violation(Violation),
    /// No bytes arrived in time.
    PingTimeout,
    /// The leg exceeded its rate limit.
    OverRate,
    /// The leg does not read.
    SlowReader,
}

// === impl Pump ===

impl Pump {
    pub(super) fn new(sender: Role, reserved: RsvBits) -> Self {
        Pump {
            tracker: FrameTracker::new(sender, reserved),
            unparsed: Vec::new(),
            stalled: false,
            unsent: Vec::new(),
            sent: 0,
            unflushed: 0,
            accepted_at_flush: 0,
            close: None,
            close_sent: false,
            final_counts: None,
            discarded: 0,
            ended: None,
            from_client: sender == Role::Client,
            bounds_elsewhere: false,
            tap: None,
            limiter: None,
            data_relayed: false,
        }
    }

    /// Disables the bounds on single frames, because `src` checks them on the frames that the peer sent.
    pub(super) fn disable_frame_bounds(&mut self) {
        self.bounds_elsewhere = true;
    }

    /// Relays until no further work is possible now. On `Pending` the waker is registered for everything awaited.
    pub(super) fn poll<S: Transport, D: Transport>(
        &mut self,
        cx: &mut Context<'_>,
        src: &mut Leg<S>,
        dst: &mut Leg<D>,
        limits: &SessionLimits,
        now: Instant,
    ) -> Poll<()> {
        self.set_clock(now);
        loop {
            ready!(self.poll_write_unsent(cx, dst));
            if self.inject(cx, dst, now) {
                continue;
            }
            if self.ended.is_some() {
                return Poll::Ready(());
            }
            if self.discard_limit_reached() {
                // This ends the session.
                return Poll::Pending;
            }
            if self.close_sent || src.broken {
                // Further input is discarded and needs no limit, and its end must be detected.
                self.limiter = None;
            }
            let max_bytes = match &mut self.limiter {
                None => usize::MAX,
                Some(limiter) => match limiter.available() {
                    Some(available) => available,
                    // The session's timer resumes the reading.
                    None => return Poll::Pending,
                },
            };
            if self.stalled {
                let unparsed_bytes = std::mem::take(&mut self.unparsed);
                self.relay(cx, &unparsed_bytes, src, dst, limits, now);
                continue;
            }
            if self
                .poll_src(cx, src, dst, limits, max_bytes, now)
                .is_pending()
            {
                // `src` cannot be written to and all its input has been read: an EOF may never arrive.
                let is_lost = src.broken && coop::has_budget_remaining();
                if !is_lost {
                    return Poll::Pending;
                }
                self.ended = Some(LegEnd::Gone);
            }
        }
    }

    /// Relays early data: bytes that arrived directly after the handshake, before the session began.
    pub(super) fn preload<S: Transport, D: Transport>(
        &mut self,
        cx: &mut Context<'_>,
        early: &[u8],
        src: &mut Leg<S>,
        dst: &mut Leg<D>,
        limits: &SessionLimits,
        now: Instant,
    ) {
        self.set_clock(now);
        self.relay(cx, early, src, dst, limits, now);
    }

    fn set_clock(&mut self, now: Instant) {
        if let Some(limiter) = &mut self.limiter {
            limiter.set_clock(now);
        }
    }

    /// Returns the counts of relayed frames, including unsent ones that were dropped with `dst`.
    pub(super) fn counts(&self) -> FrameCounts {
        let final_counts = self.final_counts.as_deref();
        final_counts
            .copied()
            .unwrap_or_else(|| self.tracker.counts())
    }

    /// Applies `rate` to `src` from now on.
    pub(super) fn limit_rate(&mut self, rate: RateLimit, now: Instant) {
        self.limiter = Gcra::new(rate, now);
    }

    /// Removes the rate limit on `src`, because the session is ending.
    pub(super) fn unlimit_rate(&mut self) {
        self.limiter = None;
    }

    /// Returns the time until which `src` is not read because it has reached its rate limit.
    pub(super) fn resumes(&self) -> Option<Instant> {
        let limiter = self.limiter.as_deref();
        limiter
            .filter(|_| self.ended.is_none() && !self.is_blocked())
            .and_then(Gcra::resumes)
    }

    /// Returns whether data was relayed since the last call.
    pub(super) fn take_data_relayed(&mut self) -> bool {
        std::mem::take(&mut self.data_relayed)
    }

    /// Returns the capacity of all buffers, in bytes.
    #[cfg(test)]
    pub(super) fn buffered_capacity(&self) -> usize {
        self.unparsed.capacity() + self.unsent.capacity()
    }

    /// Returns whether `src` has ended and everything for `dst` has been passed to the kernel.
    pub(super) fn is_finished(&self) -> bool {
        self.ended.is_some() && self.close.is_none() && !self.is_blocked()
    }

    /// Returns whether [`MAX_DISCARDED`] bytes of a backend were discarded because its client is dead: its end is no longer
    /// awaited. A dead backend needs no such limit: its client was sent a Close, and `close_timeout` bounds the reply.
    pub(super) fn discard_limit_reached(&self) -> bool {
        !self.from_client && self.discarded >= MAX_DISCARDED
    }

    /// Returns whether `src` ended inside a frame whose beginning `dst` has received: nothing may follow it.
    pub(super) fn is_truncated(&self) -> bool {
        self.ended.is_some() && !self.close_sent && !self.tracker.at_boundary()
    }
}

/// Length of the read buffer: a message of 64 KiB and its header fit into one read and one write.
pub(super) const READ_BUF_LEN: usize = 66 * 1024;
/// Maximum number of discarded bytes: more than a backend has in flight when its client disconnects.
pub(super) const MAX_DISCARDED: usize = 16 * 1024 * 1024;
