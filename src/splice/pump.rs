//! One direction of a session: from `src` to `dst`, verbatim, with control frames of ours put in between.
//!
//! It reads into a buffer that all sessions of a thread share and writes at once; only what the kernel would not take
//! is kept, and until that is gone nothing more is read. So an idle session holds no buffer, and a stuck one at most one.

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
    /// Bytes that were read but not understood yet: part of a header or of a control frame, so never more than 130; or,
    /// where `stalled`, what was left of a read when the rate was reached.
    unparsed: Vec<u8>,
    stalled: bool,
    /// What `dst` would not take yet, from `sent` on.
    unsent: Vec<u8>,
    sent: usize,
    /// Bytes that `dst` has taken since it was last flushed: TLS keeps them until its socket takes them.
    unflushed: usize,
    /// What the kernel had taken when it was.
    flushed_at: u64,
    /// A Close of ours that waits for a frame boundary.
    pub(super) close: Option<PendingClose>,
    /// A Close has gone to `dst`, relayed or ours: what still comes from `src` is read, understood and dropped.
    pub(super) close_sent: bool,
    /// What had passed when the rest began to be dropped.
    passed: Option<Box<FrameCounts>>,
    /// How much was dropped because `dst` is given up.
    discarded: usize,
    /// `src` will say no more.
    pub(super) ended: Option<LegEnd>,
    masks: bool,
    /// What `src` has for frames are others than its peer sent, who is judged by those there ([`LegIo::judge_frames`]).
    bounds_elsewhere: bool,
    /// For whoever looks; mostly nobody.
    pub(super) tap: Option<Box<FrameTap>>,
    /// What `src` may send; `None`: as much as it likes.
    meter: Option<Box<Gcra>>,
    /// Data has moved since that was last asked.
    moved: bool,
}

/// A Close of ours, not sent before its time: `src` may have answers on the way that should arrive first.
#[derive(Debug)]
pub(super) struct PendingClose {
    pub(super) code: u16,
    pub(super) reason: Box<str>,
    pub(super) not_before: Instant,
    /// Its time has also come when no message is open.
    pub(super) between_messages: bool,
}

/// Why nothing more comes from a leg.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum LegEnd {
    /// Its Close.
    Closed(Option<u16>),
    /// EOF or an error. A client that drops without close_notify reads as `UnexpectedEof`: the same to us.
    Gone,
    /// A frame that may not pass.
    Violation(Violation),
    /// No sign of life.
    PingTimeout,
    /// More than it may send.
    OverRate,
    /// It does not read.
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

    /// From now on no bounds on single frames are heeded: they are where those are seen that the peer sends.
    pub(super) fn disable_frame_bounds(&mut self) {
        self.bounds_elsewhere = true;
    }

    /// Relays until nothing more can be done now. `Pending` has registered for whatever it waits for.
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
                // The session ends of it.
                return Poll::Pending;
            }
            if self.close_sent || src.broken {
                // What comes now burdens nobody, and its end must be seen.
                self.meter = None;
            }
            let room = match &mut self.meter {
                None => usize::MAX,
                Some(meter) => match meter.available() {
                    Some(room) => room,
                    // The session's timer knows when to go on.
                    None => return Poll::Pending,
                },
            };
            if self.stalled {
                let held = std::mem::take(&mut self.unparsed);
                self.relay(cx, &held, src, dst, limits, now);
                continue;
            }
            if self.poll_src(cx, src, dst, limits, room, now).is_pending() {
                // It cannot be written to, and its last words are read: no EOF need ever come.
                let is_lost = src.broken && coop::has_budget_remaining();
                if !is_lost {
                    return Poll::Pending;
                }
                self.ended = Some(LegEnd::Gone);
            }
        }
    }

    /// Relays what was read before the session began: bytes that came right behind the handshake.
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

    /// What has passed, or was on its way when the last was dropped.
    pub(super) fn counts(&self) -> FrameCounts {
        let passed = self.passed.as_deref();
        passed.copied().unwrap_or_else(|| self.tracker.counts())
    }

    /// From now on `src` may send so much.
    pub(super) fn limit_rate(&mut self, rate: RateLimit, now: Instant) {
        self.meter = Gcra::new(rate, now);
    }

    /// From now on `src` may send as much as it likes: the session ends.
    pub(super) fn unlimit_rate(&mut self) {
        self.meter = None;
    }

    /// Until when `src` is not read, for it has sent what it may.
    pub(super) fn resumes(&self) -> Option<Instant> {
        let meter = self.meter.as_deref();
        meter
            .filter(|_| self.ended.is_none() && !self.is_blocked())
            .and_then(Gcra::resumes)
    }

    /// Whether data has moved since this was last asked.
    pub(super) fn take_moved(&mut self) -> bool {
        std::mem::take(&mut self.moved)
    }

    /// Room that is held, in bytes.
    #[cfg(test)]
    pub(super) fn room(&self) -> usize {
        self.unparsed.capacity() + self.unsent.capacity()
    }

    /// Whether all that `dst` will ever get has been handed to the kernel.
    pub(super) fn is_finished(&self) -> bool {
        self.ended.is_some() && self.close.is_none() && !self.is_blocked()
    }

    /// Whether a backend has sent so much for a client that is given up that its end is waited for no longer. A backend that
    /// is given up burdens nobody so: its client was told, and has until `close_timeout` to hear it.
    pub(super) fn discard_limit_reached(&self) -> bool {
        !self.masks && self.discarded >= MAX_DISCARDED
    }

    /// Whether `src` ended inside a frame that `dst` has the beginning of: nothing may be put behind it.
    pub(super) fn is_truncated(&self) -> bool {
        self.ended.is_some() && !self.close_sent && !self.tracker.at_boundary()
    }
}

/// What a pump reads at a time: a message of 64 KiB comes with its header in one read, and goes in one write.
pub(super) const READ_BUF_LEN: usize = 66 * 1024;
/// What a backend may send for nobody: more than is on its way when it hears that its client is gone.
pub(super) const MAX_DISCARDED: usize = 16 * 1024 * 1024;
