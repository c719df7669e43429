//! One direction of a session: from `src` to `dst`, verbatim, with control frames of ours put in between.
//!
//! It reads into a buffer that all sessions of a thread share and writes at once; only what the kernel would not take
//! is kept, and until that is gone nothing more is read. So an idle session holds no buffer, and a stuck one at most one.

mod inject;
mod intake;

use super::{
    Limits, Rate,
    leg::{Leg, LegIo},
    meter::Meter,
    tap::Tap,
};
use crate::proto::track::{Counts, FrameTracker, Reserved, Sender, Violation};
use std::{
    cell::RefCell,
    pin::Pin,
    task::{Context, Poll, ready},
};
use tokio::{io::ReadBuf, task::coop, time::Instant};

/// One direction.
pub(super) struct Pump {
    pub(super) tracker: FrameTracker,
    /// Bytes that were read but not understood yet: part of a header or of a control frame, so never more than 130; or,
    /// where `stalled`, what was left of a read when the rate was reached.
    held: Vec<u8>,
    stalled: bool,
    /// What `dst` would not take yet, from `sent` on.
    tail: Vec<u8>,
    sent: usize,
    /// Bytes that `dst` has taken since it was last flushed: TLS keeps them until its socket takes them.
    unflushed: usize,
    /// What the kernel had taken when it was.
    flushed_at: u64,
    /// A Close of ours that waits for a frame boundary.
    pub(super) close: Option<CloseDue>,
    /// A Close has gone to `dst`, relayed or ours: what still comes from `src` is read, understood and dropped.
    pub(super) shut: bool,
    /// What had passed when the rest began to be dropped.
    passed: Option<Box<Counts>>,
    /// `src` will say no more.
    pub(super) ended: Option<End>,
    masks: bool,
    /// What `src` has for frames are others than its peer sent, who is judged by those there ([`LegIo::judge_frames`]).
    recut: bool,
    /// For whoever looks; mostly nobody.
    pub(super) tap: Option<Box<Tap>>,
    /// What `src` may send; `None`: as much as it likes.
    meter: Option<Box<Meter>>,
    /// Data has moved since that was last asked.
    moved: bool,
}

/// A Close of ours, not sent before its time: `src` may have answers on the way that should arrive first.
#[derive(Debug)]
pub(super) struct CloseDue {
    pub(super) code: u16,
    pub(super) reason: Box<str>,
    pub(super) not_before: Instant,
    /// Its time has also come when no message is open.
    pub(super) between_messages: bool,
}

/// Why nothing more comes from a leg.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum End {
    /// Its Close.
    Closed(Option<u16>),
    /// EOF or an error. A client that drops without close_notify reads as `UnexpectedEof`: the same to us.
    Gone,
    /// A frame that may not pass.
    Violation(Violation),
    /// No sign of life.
    Dead,
    /// More than it may send.
    OverRate,
    /// It does not read.
    SlowReader,
}

// === impl Pump ===

impl Pump {
    pub(super) fn new(sender: Sender, reserved: Reserved) -> Self {
        Pump {
            tracker: FrameTracker::new(sender, reserved),
            held: Vec::new(),
            stalled: false,
            tail: Vec::new(),
            sent: 0,
            unflushed: 0,
            flushed_at: 0,
            close: None,
            shut: false,
            passed: None,
            ended: None,
            masks: sender == Sender::Client,
            recut: false,
            tap: None,
            meter: None,
            moved: false,
        }
    }

    /// From now on no bounds on single frames are heeded: they are where those are seen that the peer sends.
    pub(super) fn leave_frames(&mut self) {
        self.recut = true;
    }

    /// Relays until nothing more can be done now. `Pending` has registered for whatever it waits for.
    pub(super) fn poll<S: LegIo, D: LegIo>(
        &mut self,
        cx: &mut Context<'_>,
        src: &mut Leg<S>,
        dst: &mut Leg<D>,
        limits: &Limits,
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
            if self.shut || src.broken {
                // What comes now burdens nobody, and its end must be seen.
                self.meter = None;
            }
            let room = match &mut self.meter {
                None => usize::MAX,
                Some(meter) => match meter.room() {
                    Some(room) => room,
                    // The session's timer knows when to go on.
                    None => return Poll::Pending,
                },
            };
            if self.stalled {
                let held = std::mem::take(&mut self.held);
                self.take_in(cx, &held, src, dst, limits, now);
                continue;
            }
            if self.poll_src(cx, src, dst, limits, room, now).is_pending() {
                // It cannot be written to, and its last words are read: no EOF need ever come.
                let is_lost = src.broken && coop::has_budget_remaining();
                if !is_lost {
                    return Poll::Pending;
                }
                self.ended = Some(End::Gone);
            }
        }
    }

    /// Reads once, at most `room` bytes, and relays them.
    fn poll_src<S: LegIo, D: LegIo>(
        &mut self,
        cx: &mut Context<'_>,
        src: &mut Leg<S>,
        dst: &mut Leg<D>,
        limits: &Limits,
        room: usize,
        now: Instant,
    ) -> Poll<()> {
        ready!(src.io.poll_readable(cx));
        SCRATCH.with_borrow_mut(|scratch| {
            let most = self.held.len().saturating_add(room).min(scratch.len());
            let mut buf = ReadBuf::new(&mut scratch[..most]);
            buf.put_slice(&self.held);
            let read = Pin::new(&mut src.io).poll_read(cx, &mut buf);
            let surplus = src.io.surplus();
            if surplus > 0 {
                src.pulse.heard(now);
            }
            if self.charge_surplus(surplus) && read.is_pending() {
                self.ended = Some(End::OverRate);
                return Poll::Ready(());
            }
            if ready!(read).is_err() || buf.filled().len() == self.held.len() {
                let fault = src.io.fault();
                self.ended = Some(fault.map_or(End::Gone, End::Violation));
            } else {
                src.pulse.heard(now);
                // Given back, not cleared: an idle session holds no buffer.
                self.held = Vec::new();
                self.take_in(cx, buf.filled(), src, dst, limits, now);
            }
            Poll::Ready(())
        })
    }

    /// Relays what was read before the session began: bytes that came right behind the handshake.
    pub(super) fn preload<S: LegIo, D: LegIo>(
        &mut self,
        cx: &mut Context<'_>,
        early: &[u8],
        src: &mut Leg<S>,
        dst: &mut Leg<D>,
        limits: &Limits,
        now: Instant,
    ) {
        self.set_clock(now);
        self.take_in(cx, early, src, dst, limits, now);
    }

    fn set_clock(&mut self, now: Instant) {
        if let Some(meter) = &mut self.meter {
            meter.set_clock(now);
        }
    }

    /// What has passed, or was on its way when the last was dropped.
    pub(super) fn counts(&self) -> Counts {
        let passed = self.passed.as_deref();
        passed.copied().unwrap_or_else(|| self.tracker.counts())
    }

    /// Whether bytes wait for `dst`, which keeps us from reading `src`.
    pub(super) fn is_stuck(&self) -> bool {
        self.sent < self.tail.len() || self.unflushed > 0
    }

    /// How many bytes wait for `dst` here, of whose bytes the kernel has now taken so many.
    pub(super) fn stuck_bytes(&self, taken: u64) -> usize {
        let gone = usize::try_from(taken.saturating_sub(self.flushed_at)).unwrap_or(usize::MAX);
        self.tail.len() - self.sent + self.unflushed.saturating_sub(gone)
    }

    /// From now on `src` may send so much.
    pub(super) fn limit_rate(&mut self, rate: Rate, now: Instant) {
        self.meter = Meter::new(rate, now);
    }

    /// From now on `src` may send as much as it likes: the session ends.
    pub(super) fn unlimit_rate(&mut self) {
        self.meter = None;
    }

    /// Until when `src` is not read, for it has sent what it may.
    pub(super) fn resumes(&self) -> Option<Instant> {
        let meter = self.meter.as_deref();
        meter
            .filter(|_| self.ended.is_none() && !self.is_stuck())
            .and_then(Meter::resumes)
    }

    /// Whether data has moved since this was last asked.
    pub(super) fn take_moved(&mut self) -> bool {
        std::mem::take(&mut self.moved)
    }

    /// Room that is held, in bytes.
    #[cfg(test)]
    pub(super) fn room(&self) -> usize {
        self.held.capacity() + self.tail.capacity()
    }

    /// Whether all that `dst` will ever get has been handed to the kernel.
    pub(super) fn is_finished(&self) -> bool {
        self.ended.is_some() && self.close.is_none() && !self.is_stuck()
    }

    /// Whether `src` ended inside a frame that `dst` has the beginning of: nothing may be put behind it.
    pub(super) fn is_cut(&self) -> bool {
        self.ended.is_some() && !self.shut && !self.tracker.at_boundary()
    }

    /// Hands `bytes` to `dst`; what it does not take at once is kept.
    fn put<D: LegIo>(&mut self, cx: &mut Context<'_>, mut bytes: &[u8], dst: &mut Leg<D>) {
        if self.shut || dst.broken {
            return;
        }
        while self.sent == self.tail.len() && !bytes.is_empty() {
            match Pin::new(&mut dst.io).poll_write(cx, bytes) {
                Poll::Ready(Ok(n)) if n > 0 => {
                    self.unflushed += n;
                    bytes = &bytes[n..];
                }
                Poll::Ready(_) => return self.give_up(dst),
                Poll::Pending => break,
            }
        }
        self.tail.extend_from_slice(bytes);
    }

    /// Writes what was kept, and flushes.
    fn poll_drain<D: LegIo>(&mut self, cx: &mut Context<'_>, dst: &mut Leg<D>) -> Poll<()> {
        if dst.broken {
            self.give_up(dst);
        }
        while self.sent < self.tail.len() {
            match ready!(Pin::new(&mut dst.io).poll_write(cx, &self.tail[self.sent..])) {
                Ok(n) if n > 0 => {
                    self.unflushed += n;
                    self.sent += n;
                }
                _ => self.give_up(dst),
            }
        }
        if !self.tail.is_empty() {
            // Given back, not cleared: an idle session holds no buffer.
            self.tail = Vec::new();
            self.sent = 0;
            self.moved = true;
        }
        if self.unflushed > 0 {
            if ready!(Pin::new(&mut dst.io).poll_flush(cx)).is_err() {
                self.give_up(dst);
            }
            self.unflushed = 0;
            self.flushed_at = dst.io.taken();
        }
        Poll::Ready(())
    }

    fn give_up<D: LegIo>(&mut self, dst: &mut Leg<D>) {
        dst.broken = true;
        self.tail = Vec::new();
        self.sent = 0;
        self.unflushed = 0;
        self.close = None;
    }
}

thread_local! {
    /// Room for a read of 64 KiB behind the bytes that are held: the bound on what one direction may hold.
    static SCRATCH: RefCell<Box<[u8]>> = RefCell::new(vec![0; 64 * 1024].into_boxed_slice());
}
