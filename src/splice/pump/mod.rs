//! One direction of a session: from `src` to `dst`, verbatim, with control frames of our own inserted between frames.
//!
//! A pump reads into a buffer that all sessions of a thread share and writes immediately. Only bytes that the kernel
//! did not accept are kept, and nothing is read until they are written. So an idle session holds no buffer, and a
//! blocked one at most one.
//!
//! This file has the state and the reading half. The writing half is in `output`.

mod output;

use crate::{
    observe::access::record::SessionRecord,
    proto::{
        frame::Opcode,
        frame_tracker::{FrameCounts, FrameTracker, Progress, Role, RsvBits, Violation},
    },
    registry::{tap_sink::TapSink, traffic::LegSide},
    splice::{
        keepalive::MismaskedPong,
        leg::{Leg, LegIo, Unseen},
        limits::SessionLimits,
        rate_limit::{Gcra, RateDecision, RateLimit},
        tap::FrameTap,
    },
};
use std::{
    cell::RefCell,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, ready},
};
use tokio::{io::ReadBuf, task::coop, time::Instant};

/// State of one direction.
pub(crate) struct Pump {
    tracker: FrameTracker,
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
    pub(crate) close: Option<PendingClose>,
    /// Whether a Close, relayed or ours, was sent to `dst`: further input from `src` is read, parsed and dropped.
    pub(crate) close_sent: bool,
    /// Counts of the relayed frames when discarding began.
    final_counts: Option<Box<FrameCounts>>,
    /// Number of bytes discarded because `dst` cannot be written to.
    discarded: usize,
    /// Why `src` sends nothing further; `None` while it is open.
    pub(crate) ended: Option<LegEnd>,
    /// Whether the violation by which `src` ended is in a Pong.
    pub(crate) refused_pong: bool,
    /// Whether `src` is the client: frames of this direction are masked (RFC 6455 §5.1).
    from_client: bool,
    /// Whether `src` delivers other frames than its peer sent; bounds on the peer's own frames are checked in `src`
    /// ([`LegIo::set_frame_bounds`]).
    bounds_elsewhere: bool,
    /// Present while a tap is attached, which is rare.
    tap: Option<Box<FrameTap>>,
    /// Rate limit on `src`; `None`: unlimited.
    limiter: Option<Box<Gcra>>,
    /// Whether data was relayed since the last call of [`Pump::take_data_relayed`].
    data_relayed: bool,
    /// Whether `unsent` has data frames: control frames are not activity.
    unsent_data: bool,
}

/// A Close of our own that is sent with a delay, so that frames of `src` that are in flight arrive first.
#[derive(Debug)]
pub(crate) struct PendingClose {
    pub(crate) code: u16,
    pub(crate) reason: Box<str>,
    pub(crate) not_before: Instant,
    /// Whether the Close is also due when no message is open.
    pub(crate) between_messages: bool,
}

/// Why a leg has ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum LegEnd {
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
    pub(crate) fn new(sender: Role, reserved: RsvBits) -> Self {
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
            refused_pong: false,
            from_client: sender == Role::Client,
            bounds_elsewhere: false,
            tap: None,
            limiter: None,
            data_relayed: false,
            unsent_data: false,
        }
    }

    /// Disables the bounds on single frames, because `src` checks them on the frames that the peer sent.
    pub(crate) fn disable_frame_bounds(&mut self) {
        self.bounds_elsewhere = true;
    }

    /// Relays until no further work is possible now. On `Pending` the waker is registered for everything awaited.
    pub(crate) fn poll<S: LegIo, D: LegIo>(
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
    pub(crate) fn preload<S: LegIo, D: LegIo>(
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
    pub(crate) fn counts(&self) -> FrameCounts {
        let final_counts = self.final_counts.as_deref();
        final_counts
            .copied()
            .unwrap_or_else(|| self.tracker.counts())
    }

    /// Applies `rate` to `src` from now on.
    pub(crate) fn limit_rate(&mut self, rate: RateLimit, now: Instant) {
        self.limiter = Gcra::new(rate, READ_BUF_LEN, now);
    }

    /// Removes the rate limit on `src`, because the session is ending.
    pub(crate) fn unlimit_rate(&mut self) {
        self.limiter = None;
    }

    /// Replaces the set of subscribers, which may be empty.
    pub(crate) fn set_taps(
        &mut self,
        sinks: &[Arc<TapSink>],
        from: LegSide,
        session: &Arc<SessionRecord>,
    ) {
        self.tap = match self.tap.take() {
            _ if sinks.is_empty() => None,
            Some(mut tap) => {
                tap.set_sinks(sinks);
                Some(tap)
            }
            None => Some(Box::new(FrameTap::new(sinks, from, session, &self.tracker))),
        };
    }

    /// Returns the time until which `src` is not read because it has reached its rate limit.
    pub(crate) fn resumes(&self) -> Option<Instant> {
        let limiter = self.limiter.as_deref();
        limiter
            .filter(|_| self.ended.is_none() && !self.is_blocked())
            .and_then(Gcra::resumes)
    }

    /// Returns whether data was relayed since the last call.
    pub(crate) fn take_data_relayed(&mut self) -> bool {
        std::mem::take(&mut self.data_relayed)
    }

    /// Returns the capacity of all buffers, in bytes.
    #[cfg(test)]
    pub(crate) fn buffered_capacity(&self) -> usize {
        self.unparsed.capacity() + self.unsent.capacity()
    }

    /// Returns whether `src` has ended and everything for `dst` has been passed to the kernel.
    pub(crate) fn is_finished(&self) -> bool {
        self.ended.is_some() && self.close.is_none() && !self.is_blocked()
    }

    /// Returns whether [`MAX_DISCARDED`] bytes of a backend were discarded because its client is dead: its end is no
    /// longer awaited. A dead backend needs no such limit: its client was sent a Close, and `close_timeout` bounds the
    /// reply.
    pub(crate) fn discard_limit_reached(&self) -> bool {
        !self.from_client && self.discarded >= MAX_DISCARDED
    }

    /// Returns whether `src` ended inside a frame whose beginning `dst` has received: nothing may follow it.
    pub(crate) fn is_truncated(&self) -> bool {
        self.ended.is_some() && !self.close_sent && !self.tracker.at_boundary()
    }

    /// Reads at most `max_bytes` bytes once and relays them.
    fn poll_src<S: LegIo, D: LegIo>(
        &mut self,
        cx: &mut Context<'_>,
        src: &mut Leg<S>,
        dst: &mut Leg<D>,
        limits: &SessionLimits,
        max_bytes: usize,
        now: Instant,
    ) -> Poll<()> {
        ready!(src.io.poll_readable(cx));
        SCRATCH.with_borrow_mut(|scratch| {
            let len = self
                .unparsed
                .len()
                .saturating_add(max_bytes)
                .min(scratch.len());
            let mut buf = ReadBuf::new(&mut scratch[..len]);
            buf.put_slice(&self.unparsed);
            let read = Pin::new(&mut src.io).poll_read(cx, &mut buf);
            let unseen = src.io.take_unseen();
            if unseen.bytes > 0 {
                src.keepalive.on_bytes(now);
            }
            if self.charge_unseen(unseen) && read.is_pending() {
                self.ended = Some(LegEnd::OverRate);
                return Poll::Ready(());
            }
            if ready!(read).is_err() || buf.filled().len() == self.unparsed.len() {
                let violation = src.io.violation();
                self.ended = Some(violation.map_or(LegEnd::Gone, LegEnd::Violation));
            } else {
                src.keepalive.on_bytes(now);
                // Replaced instead of cleared, so that an idle session holds no buffer.
                self.unparsed = Vec::new();
                self.relay(cx, buf.filled(), src, dst, limits, now);
            }
            Poll::Ready(())
        })
    }

    /// Relays `bytes` and passes the relayed frames to the tap. A tap receives only valid frames: its inflater cannot
    /// continue after a violation.
    fn relay<S: LegIo, D: LegIo>(
        &mut self,
        cx: &mut Context<'_>,
        bytes: &[u8],
        src: &mut Leg<S>,
        dst: &mut Leg<D>,
        limits: &SessionLimits,
        now: Instant,
    ) {
        if self.tap.is_none() {
            return self.relay_frames(cx, bytes, src, dst, limits, now);
        }
        let before = self.tracker.counts().bytes;
        self.relay_frames(cx, bytes, src, dst, limits, now);
        if let Some(tap) = &mut self.tap {
            let valid_len = self.tracker.counts().bytes - before;
            let valid_len = usize::try_from(valid_len).unwrap_or(usize::MAX);
            tap.observe(bytes.get(..valid_len).unwrap_or(bytes));
        }
    }

    /// Relays the valid frames in `bytes`, removes Pongs that answer our Pings, inserts control frames that are due.
    fn relay_frames<S: LegIo, D: LegIo>(
        &mut self,
        cx: &mut Context<'_>,
        bytes: &[u8],
        src: &mut Leg<S>,
        dst: &mut Leg<D>,
        limits: &SessionLimits,
        now: Instant,
    ) {
        if self.close_sent || dst.broken {
            self.discarded += if dst.broken { bytes.len() } else { 0 };
            if self.final_counts.is_none() {
                self.final_counts = Some(Box::new(self.tracker.counts()));
            }
        }
        let message_bounds;
        let bounds = if self.bounds_elsewhere {
            message_bounds = limits.bounds.without_frame_bounds();
            &message_bounds
        } else {
            &limits.bounds
        };
        // `bytes[from..at]` is parsed and not relayed yet: one write carries as many frames as possible.
        let (mut from, mut at) = (0, 0);
        let mut stalled = false;
        while at < bytes.len() {
            let mut before = FrameCounts::default();
            if let Some(limiter) = &mut self.limiter {
                before = self.tracker.counts();
                let first = self.tracker.at_boundary().then(|| bytes[at]);
                match limiter.decide(first, !self.bounds_elsewhere) {
                    RateDecision::Pass => {}
                    RateDecision::Wait => {
                        self.unparsed = bytes[at..].to_vec();
                        stalled = true;
                        break;
                    }
                    RateDecision::Over => {
                        self.ended = Some(LegEnd::OverRate);
                        break;
                    }
                }
            }
            let due = self.injection_is_due(dst, now);
            let stop_at_boundary = due || self.limiter.is_some();
            let progress = match self.tracker.advance(&bytes[at..], bounds, stop_at_boundary) {
                Ok(progress) => progress,
                Err(violation) => match self.mismasked_pong(violation, &bytes[at..], src) {
                    MismaskedPong::Complete { len, payload } => {
                        src.keepalive.on_own_pong(&payload, now);
                        self.tracker.withdraw_violation(len);
                        self.write(cx, &bytes[from..at], dst);
                        at += len;
                        from = at;
                        if let Some(limiter) = &mut self.limiter {
                            limiter.charge(len, 0, 0);
                        }
                        continue;
                    }
                    MismaskedPong::Incomplete => {
                        self.tracker.withdraw_violation(0);
                        self.unparsed = bytes[at..].to_vec();
                        break;
                    }
                    MismaskedPong::Other => {
                        self.refused_pong = bytes[at] & 0x0F == PONG;
                        self.ended = Some(LegEnd::Violation(violation));
                        break;
                    }
                },
            };
            at += progress.pass;
            let data = progress.pass > 0;
            self.data_relayed |= data;
            self.unsent_data = data || (self.unsent_data && !self.unsent.is_empty());
            self.charge(&progress, before, src);
            if let Some(control) = progress.control {
                let end = at + control.len;
                match control.opcode {
                    Opcode::Pong if src.keepalive.is_own_pong(control.payload()) => {
                        src.keepalive.on_own_pong(control.payload(), now);
                        self.write(cx, &bytes[from..at], dst);
                        from = end;
                    }
                    Opcode::Pong => src.keepalive.on_foreign_pong(),
                    Opcode::Ping if self.answers_backend_ping(dst, limits, now) => {
                        self.write(cx, &bytes[from..at], dst);
                        from = end;
                        src.pending_pong = Some(control);
                    }
                    Opcode::Ping => dst.keepalive.on_relayed_ping(),
                    Opcode::Close => {
                        // A Close of ours that is due replaces this one, which answers ours or arrives too late.
                        let relay_end = if self.close.is_some() { at } else { end };
                        src.close_received = true;
                        if self.close.is_none() && dst.close_received {
                            self.write_last(cx, &bytes[from..relay_end], dst);
                        } else {
                            self.write(cx, &bytes[from..relay_end], dst);
                        }
                        self.close_sent |= self.close.is_none();
                        self.ended = Some(LegEnd::Closed(control.close_code()));
                        self.stalled = false;
                        return;
                    }
                    Opcode::Continuation | Opcode::Text | Opcode::Binary => {}
                }
                at = end;
            } else if progress.pass == 0 {
                self.unparsed = bytes[at..].to_vec();
                break;
            }
            if due && self.tracker.at_boundary() {
                self.write(cx, &bytes[from..at], dst);
                from = at;
                self.inject(cx, dst, now);
            }
        }
        self.write(cx, &bytes[from..at], dst);
        if let Some(limiter) = &mut self.limiter
            && self.ended.is_none()
            && limiter.decide(None, true) == RateDecision::Over
        {
            self.ended = Some(LegEnd::OverRate);
        }
        // Set only now: while it is set, a Close of ours waits for the bytes that were read before it.
        self.stalled = stalled;
    }

    /// Compares a refused frame with the answer to a Ping of ours. Such an answer is consumed and never relayed, so
    /// that its mask concerns no other party; RFC 6455 §5.1 is enforced for every other frame.
    #[cold]
    fn mismasked_pong<S: LegIo>(
        &self,
        violation: Violation,
        bytes: &[u8],
        src: &Leg<S>,
    ) -> MismaskedPong {
        match violation {
            Violation::Unmasked | Violation::Masked => {
                src.keepalive.mismasked_pong(!self.from_client, bytes)
            }
            _ => MismaskedPong::Other,
        }
    }

    /// Charges `src` for the received bytes, messages and frames, except for Pongs that answer our Pings.
    fn charge<S: LegIo>(&mut self, progress: &Progress, before: FrameCounts, src: &Leg<S>) {
        let Some(limiter) = &mut self.limiter else {
            return;
        };
        let counts = self.tracker.counts();
        let mut messages = counts.messages - before.messages;
        let mut frames = counts.frames - before.frames;
        let mut bytes = progress.pass;
        if let Some(control) = &progress.control {
            let is_own =
                control.opcode == Opcode::Pong && src.keepalive.is_own_pong(control.payload());
            messages += u64::from(!is_own && control.opcode != Opcode::Close);
            frames -= u64::from(is_own);
            bytes += control.len;
        }
        // The frames of a stream that converts them are charged by `charge_unseen`.
        frames = if self.bounds_elsewhere { 0 } else { frames };
        limiter.charge(bytes, messages, frames);
    }

    /// Charges `src` for what it sent and no read returned. Returns whether the session must close for it.
    fn charge_unseen(&mut self, unseen: Unseen) -> bool {
        let Some(limiter) = self.limiter.as_mut() else {
            return false;
        };
        if unseen.is_empty() {
            return false;
        }
        limiter.charge(unseen.bytes as usize, 0, u64::from(unseen.frames));
        limiter.decide(None, true) == RateDecision::Over
    }

    /// Returns whether a Ping of the backend is answered here, because the client is known to be alive.
    fn answers_backend_ping<D: LegIo>(
        &self,
        client: &Leg<D>,
        limits: &SessionLimits,
        now: Instant,
    ) -> bool {
        let window = limits.answer_backend_ping;
        !self.from_client && window.is_some_and(|window| client.keepalive.alive_within(window, now))
    }
}

thread_local! {
    /// Read buffer, which begins with the unparsed bytes: its size bounds the memory of one direction.
    static SCRATCH: RefCell<Box<[u8]>> = RefCell::new(vec![0; READ_BUF_LEN].into_boxed_slice());
}

/// The opcode of a Pong (RFC 6455 §5.2).
const PONG: u8 = 0xA;

/// Length of the read buffer: a message of 64 KiB and its header fit into one read and one write.
pub(crate) const READ_BUF_LEN: usize = 66 * 1024;

/// Maximum number of discarded bytes: more than a backend has in flight when its client disconnects.
pub(crate) const MAX_DISCARDED: usize = 16 * 1024 * 1024;
