//! One direction of a session: from `src` to `dst`, verbatim, with control frames of ours put in between.
//!
//! It reads into a buffer that all sessions of a thread share and writes at once; only what the kernel would not take
//! is kept, and until that is gone nothing more is read. So an idle session holds no buffer, and a stuck one at most one.

use super::{
    leg::{Leg, LegIo},
    random::random,
    tap::Tap,
};
use crate::proto::{
    frame::{ControlFrame, Opcode},
    track::{Bounds, Counts, FrameTracker, Reserved, Sender, Violation},
};
use std::{
    cell::RefCell,
    pin::Pin,
    task::{Context, Poll, ready},
};
use tokio::{io::ReadBuf, task::coop, time::Instant};

/// One direction.
pub(super) struct Pump {
    pub(super) tracker: FrameTracker,
    /// Bytes that were read but not understood yet: part of a header or of a control frame, so never more than 130.
    held: Vec<u8>,
    /// What `dst` would not take yet, from `sent` on.
    tail: Vec<u8>,
    sent: usize,
    unflushed: bool,
    /// A Close of ours that waits for a frame boundary.
    pub(super) close: Option<CloseDue>,
    /// A Close has gone to `dst`, relayed or ours: what still comes from `src` is read, understood and dropped.
    pub(super) shut: bool,
    /// What had passed when the rest began to be dropped.
    passed: Option<Box<Counts>>,
    /// `src` will say no more.
    pub(super) ended: Option<End>,
    masks: bool,
    /// For whoever looks; mostly nobody.
    pub(super) tap: Option<Box<Tap>>,
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
}

// === impl Pump ===

impl Pump {
    pub(super) fn new(sender: Sender, reserved: Reserved) -> Self {
        Pump {
            tracker: FrameTracker::new(sender, reserved),
            held: Vec::new(),
            tail: Vec::new(),
            sent: 0,
            unflushed: false,
            close: None,
            shut: false,
            passed: None,
            ended: None,
            masks: sender == Sender::Client,
            tap: None,
        }
    }

    /// Relays until nothing more can be done now. `Pending` has registered for whatever it waits for.
    pub(super) fn poll<S: LegIo, D: LegIo>(
        &mut self,
        cx: &mut Context<'_>,
        src: &mut Leg<S>,
        dst: &mut Leg<D>,
        bounds: &Bounds,
        now: Instant,
    ) -> Poll<()> {
        loop {
            ready!(self.poll_drain(cx, dst));
            if self.inject(cx, dst, now) {
                continue;
            }
            if self.ended.is_some() {
                return Poll::Ready(());
            }
            ready!(SCRATCH.with_borrow_mut(|scratch| {
                let mut buf = ReadBuf::new(scratch);
                buf.put_slice(&self.held);
                let read = match Pin::new(&mut src.io).poll_read(cx, &mut buf) {
                    Poll::Ready(read) => read,
                    // It cannot be written to, and its last words are read: no EOF need ever come.
                    Poll::Pending if src.broken && coop::has_budget_remaining() => {
                        self.ended = Some(End::Gone);
                        return Poll::Ready(());
                    }
                    Poll::Pending => return Poll::Pending,
                };
                if read.is_err() || buf.filled().len() == self.held.len() {
                    let fault = src.io.fault();
                    self.ended = Some(fault.map_or(End::Gone, End::Violation));
                } else {
                    src.pulse.heard(now);
                    // Given back, not cleared: an idle session holds no buffer.
                    self.held = Vec::new();
                    self.take_in(cx, buf.filled(), src, dst, bounds, now);
                }
                Poll::Ready(())
            }));
        }
    }

    /// Relays what was read before the session began: bytes that came right behind the handshake.
    pub(super) fn preload<S: LegIo, D: LegIo>(
        &mut self,
        cx: &mut Context<'_>,
        early: &[u8],
        src: &mut Leg<S>,
        dst: &mut Leg<D>,
        bounds: &Bounds,
        now: Instant,
    ) {
        self.take_in(cx, early, src, dst, bounds, now);
    }

    /// What has passed, or was on its way when the last was dropped.
    pub(super) fn counts(&self) -> Counts {
        let passed = self.passed.as_deref();
        passed.copied().unwrap_or_else(|| self.tracker.counts())
    }

    /// Whether bytes wait for `dst`, which keeps us from reading `src`.
    pub(super) fn is_stuck(&self) -> bool {
        self.sent < self.tail.len() || self.unflushed
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

    /// Walks over `bytes`; relays the frames that may pass, takes out the Pongs that answer us, puts in what is due.
    pub(super) fn walk<S: LegIo, D: LegIo>(
        &mut self,
        cx: &mut Context<'_>,
        bytes: &[u8],
        src: &mut Leg<S>,
        dst: &mut Leg<D>,
        bounds: &Bounds,
        now: Instant,
    ) {
        if (self.shut || dst.broken) && self.passed.is_none() {
            self.passed = Some(Box::new(self.tracker.counts()));
        }
        // `bytes[from..at]` is understood and not relayed yet: one write for as many frames as possible.
        let (mut from, mut at) = (0, 0);
        while at < bytes.len() {
            let due = self.injection_is_due(dst, now);
            let progress = match self.tracker.advance(&bytes[at..], bounds, due) {
                Ok(progress) => progress,
                Err(violation) => {
                    self.ended = Some(End::Violation(violation));
                    break;
                }
            };
            at += progress.pass;
            if let Some(control) = progress.control {
                let end = at + control.len;
                match control.opcode {
                    Opcode::Pong if src.pulse.is_own(control.payload()) => {
                        self.put(cx, &bytes[from..at], dst);
                        from = end;
                    }
                    Opcode::Pong => src.pulse.foreign_pong(),
                    Opcode::Ping => dst.pulse.relayed_ping(),
                    Opcode::Close => {
                        // Where a Close of ours is due, it takes this one's place: it answers ours, or comes too late.
                        let relayed = if self.close.is_some() { at } else { end };
                        self.put(cx, &bytes[from..relayed], dst);
                        self.shut |= self.close.is_none();
                        self.ended = Some(End::Closed(control.close_code()));
                        return;
                    }
                    Opcode::Continuation | Opcode::Text | Opcode::Binary => {}
                }
                at = end;
            } else if progress.pass == 0 {
                self.held = bytes[at..].to_vec();
                break;
            }
            if due && self.tracker.at_boundary() {
                self.put(cx, &bytes[from..at], dst);
                from = at;
                self.inject(cx, dst, now);
            }
        }
        self.put(cx, &bytes[from..at], dst);
    }

    /// Hands `bytes` to `dst`; what it does not take at once is kept.
    fn put<D: LegIo>(&mut self, cx: &mut Context<'_>, mut bytes: &[u8], dst: &mut Leg<D>) {
        if self.shut || dst.broken {
            return;
        }
        while self.sent == self.tail.len() && !bytes.is_empty() {
            match Pin::new(&mut dst.io).poll_write(cx, bytes) {
                Poll::Ready(Ok(n)) if n > 0 => {
                    self.unflushed = true;
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
                    self.unflushed = true;
                    self.sent += n;
                }
                _ => self.give_up(dst),
            }
        }
        if !self.tail.is_empty() {
            // Given back, not cleared: an idle session holds no buffer.
            self.tail = Vec::new();
            self.sent = 0;
        }
        if self.unflushed {
            if ready!(Pin::new(&mut dst.io).poll_flush(cx)).is_err() {
                self.give_up(dst);
            }
            self.unflushed = false;
        }
        Poll::Ready(())
    }

    fn give_up<D: LegIo>(&mut self, dst: &mut Leg<D>) {
        dst.broken = true;
        self.tail = Vec::new();
        self.sent = 0;
        self.unflushed = false;
        self.close = None;
    }

    fn injection_is_due<D: LegIo>(&self, dst: &Leg<D>, now: Instant) -> bool {
        !self.shut && (self.close_is_ripe(now) || dst.pulse.ping_is_due())
    }

    fn close_is_ripe(&self, now: Instant) -> bool {
        self.close.as_ref().is_some_and(|close| {
            let between = close.between_messages && !self.tracker.in_message();
            self.ended.is_some() || between || now >= close.not_before
        })
    }

    /// Puts in what is due, if what has passed ends with a whole frame (RFC 6455 §5.4: control frames may stand between
    /// the fragments of a message, never inside a frame). True if something was put in.
    fn inject<D: LegIo>(&mut self, cx: &mut Context<'_>, dst: &mut Leg<D>, now: Instant) -> bool {
        if !self.injection_is_due(dst, now) || !self.tracker.at_boundary() {
            return false;
        }
        let mask = self.masks.then(random);
        if self.close_is_ripe(now)
            && let Some(close) = self.close.take()
        {
            let frame = ControlFrame::close(close.code, &close.reason, mask);
            self.put(cx, frame.as_bytes(), dst);
            self.shut = true;
            return true;
        }
        if dst.pulse.ping_is_due() {
            let frame = dst.pulse.ask(now, mask);
            self.put(cx, frame.as_bytes(), dst);
            return true;
        }
        false
    }
}

thread_local! {
    /// Room for a read of 64 KiB behind the bytes that are held: the bound on what one direction may hold.
    static SCRATCH: RefCell<Box<[u8]>> = RefCell::new(vec![0; 64 * 1024].into_boxed_slice());
}
