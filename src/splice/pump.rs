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

/// One direction.
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
    flushed_at: u64,
    /// A Close of our own that waits for a frame boundary.
    pub(super) close: Option<PendingClose>,
    /// Whether a Close, relayed or ours, was sent to `dst`: further input from `src` is read, parsed and dropped.
    pub(super) close_sent: bool,
    /// Frames relayed before the rest was dropped.
    passed: Option<Box<FrameCounts>>,
    /// Number of bytes dropped because `dst` is considered dead.
    discarded: usize,
    /// The end of `src`: it sends nothing further.
    pub(super) ended: Option<LegEnd>,
    masks: bool,
    /// Whether `src` delivers other frames than its peer sent; bounds on the peer's own frames are checked in `src`
    /// (`set_frame_bounds`).
    bounds_elsewhere: bool,
    /// Present while a tap is attached, which is rare.
    pub(super) tap: Option<Box<FrameTap>>,
    /// Rate limit on `src`; `None`: unlimited.
    meter: Option<Box<Gcra>>,
    /// Whether data was relayed since the last call of [`Pump::take_moved`].
    moved: bool,
}

/// A Close of our own that is sent with a delay: replies from `src` that are in flight should arrive first.
#[derive(Debug)]
pub(super) struct PendingClose {
    pub(super) code: u16,
    pub(super) reason: Box<str>,
    pub(super) not_before: Instant,
    /// Whether the Close is also due when no message is open.
    pub(super) between_messages: bool,
}

/// Why a leg sends nothing further.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum LegEnd {
    /// The leg sent a Close.
    Closed(Option<u16>),
    /// EOF or an error. A client that drops the connection without close_notify gives `UnexpectedEof`, handled alike.
    Gone,
    /// A frame that violates RFC 6455 or a limit.
    Violation(Violation),
    /// No bytes and no Pong arrived in time.
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
            flushed_at: 0,
            close: None,
            close_sent: false,
            passed: None,
            discarded: 0,
            ended: None,
            masks: sender == Role::Client,
            bounds_elsewhere: false,
            tap: None,
            meter: None,
            moved: false,
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
            ready!(self.poll_drain(cx, dst));
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
                self.meter = None;
            }
            let room = match &mut self.meter {
                None => usize::MAX,
                Some(meter) => match meter.available() {
                    Some(room) => room,
                    // The session's timer resumes the reading.
                    None => return Poll::Pending,
                },
            };
            if self.stalled {
                let held = std::mem::take(&mut self.unparsed);
                self.relay(cx, &held, src, dst, limits, now);
                continue;
            }
            if self.poll_src(cx, src, dst, limits, room, now).is_pending() {
                // The leg cannot be written to and all its input has been read: an EOF may never arrive.
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
        if let Some(meter) = &mut self.meter {
            meter.set_clock(now);
        }
    }

    /// Returns the counts of relayed frames, including those in flight when dropping began.
    pub(super) fn counts(&self) -> FrameCounts {
        let passed = self.passed.as_deref();
        passed.copied().unwrap_or_else(|| self.tracker.counts())
    }

    /// Applies `rate` to `src` from now on.
    pub(super) fn limit_rate(&mut self, rate: RateLimit, now: Instant) {
        self.meter = Gcra::new(rate, now);
    }

    /// Removes the rate limit on `src`, because the session is ending.
    pub(super) fn unlimit_rate(&mut self) {
        self.meter = None;
    }

    /// Returns the time until which `src` is not read because it has reached its rate limit.
    pub(super) fn resumes(&self) -> Option<Instant> {
        let meter = self.meter.as_deref();
        meter
            .filter(|_| self.ended.is_none() && !self.is_blocked())
            .and_then(Gcra::resumes)
    }

    /// Returns whether data was relayed since the last call.
    pub(super) fn take_moved(&mut self) -> bool {
        std::mem::take(&mut self.moved)
    }

    /// Returns the capacity of all held buffers, in bytes.
    #[cfg(test)]
    pub(super) fn room(&self) -> usize {
        self.unparsed.capacity() + self.unsent.capacity()
    }

    /// Returns whether everything meant for `dst` has been passed to the kernel.
    pub(super) fn is_finished(&self) -> bool {
        self.ended.is_some() && self.close.is_none() && !self.is_blocked()
    }

    /// Returns whether a backend has sent so much for a dead client that its end is no longer awaited. The reverse case
    /// needs no such limit: the client of a dead backend was sent a Close, and `close_timeout` bounds its answer.
    pub(super) fn discard_limit_reached(&self) -> bool {
        !self.masks && self.discarded >= MAX_DISCARDED
    }

    /// Returns whether `src` ended inside a frame whose beginning `dst` has received: nothing may follow it.
    pub(super) fn is_truncated(&self) -> bool {
        self.ended.is_some() && !self.close_sent && !self.tracker.at_boundary()
    }
}

/// Bytes that a pump reads at once: a message of 64 KiB and its header fit into one read and one write.
pub(super) const READ_BUF_LEN: usize = 66 * 1024;
/// Maximum number of discarded bytes: more than a backend has in flight when it learns that its client is gone.
pub(super) const MAX_DISCARDED: usize = 16 * 1024 * 1024;
