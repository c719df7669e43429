//! What a pump reads, and what it does with that.

use super::{End, Pump, READ};
use crate::{
    proto::{frame::Opcode, track::Progress},
    splice::{
        Limits,
        leg::{Leg, Transport},
        meter::Verdict,
    },
};
use std::{
    cell::RefCell,
    pin::Pin,
    task::{Context, Poll, ready},
};
use tokio::{io::ReadBuf, time::Instant};

// === impl Pump ===

impl Pump {
    /// Reads once, at most `room` bytes, and relays them.
    pub(super) fn poll_src<S: Transport, D: Transport>(
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
            let surplus = src.io.take_discarded();
            if surplus > 0 {
                src.pulse.heard(now);
            }
            if self.charge_surplus(surplus) && read.is_pending() {
                self.ended = Some(End::OverRate);
                return Poll::Ready(());
            }
            if ready!(read).is_err() || buf.filled().len() == self.held.len() {
                let fault = src.io.violation();
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

    /// Walks over `bytes`; relays the frames that may pass, takes out the Pongs that answer us, puts in what is due.
    pub(in crate::splice) fn walk<S: Transport, D: Transport>(
        &mut self,
        cx: &mut Context<'_>,
        bytes: &[u8],
        src: &mut Leg<S>,
        dst: &mut Leg<D>,
        limits: &Limits,
        now: Instant,
    ) {
        if self.shut || dst.broken {
            self.lost += if dst.broken { bytes.len() } else { 0 };
            if self.passed.is_none() {
                self.passed = Some(Box::new(self.tracker.counts()));
            }
        }
        let of_messages;
        let bounds = match self.recut {
            false => &limits.bounds,
            true => {
                of_messages = limits.bounds.from_messages();
                &of_messages
            }
        };
        // `bytes[from..at]` is understood and not relayed yet: one write for as many frames as possible.
        let (mut from, mut at) = (0, 0);
        let mut stalled = false;
        while at < bytes.len() {
            if let Some(meter) = &mut self.meter {
                let first = self.tracker.at_boundary().then(|| bytes[at]);
                match meter.judge(first) {
                    Verdict::Pass => {}
                    Verdict::Wait => {
                        self.held = bytes[at..].to_vec();
                        stalled = true;
                        break;
                    }
                    Verdict::Over => {
                        self.ended = Some(End::OverRate);
                        break;
                    }
                }
            }
            let due = self.injection_is_due(dst, now);
            let stop = due || self.meter.is_some();
            let begun = self.tracker.counts().messages;
            let progress = match self.tracker.advance(&bytes[at..], bounds, stop) {
                Ok(progress) => progress,
                Err(violation) => {
                    self.ended = Some(End::Violation(violation));
                    break;
                }
            };
            at += progress.pass;
            self.moved |= progress.pass > 0;
            self.charge(&progress, begun, src);
            if let Some(control) = progress.control {
                let end = at + control.len;
                match control.opcode {
                    Opcode::Pong if src.pulse.is_own(control.payload()) => {
                        src.pulse.answered(control.payload(), now);
                        self.put(cx, &bytes[from..at], dst);
                        from = end;
                    }
                    Opcode::Pong => src.pulse.foreign_pong(),
                    Opcode::Ping if self.answers_for(dst, limits, now) => {
                        self.put(cx, &bytes[from..at], dst);
                        from = end;
                        src.pending_pong = Some(control);
                    }
                    Opcode::Ping => dst.pulse.relayed_ping(),
                    Opcode::Close => {
                        // Where a Close of ours is due, it takes this one's place: it answers ours, or comes too late.
                        let relayed = if self.close.is_some() { at } else { end };
                        src.close_received = true;
                        match self.close.is_none() && dst.close_received {
                            true => self.put_last(cx, &bytes[from..relayed], dst),
                            false => self.put(cx, &bytes[from..relayed], dst),
                        }
                        self.shut |= self.close.is_none();
                        self.ended = Some(End::Closed(control.close_code()));
                        self.stalled = false;
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
        if let Some(meter) = &mut self.meter
            && self.ended.is_none()
            && meter.judge(None) == Verdict::Over
        {
            self.ended = Some(End::OverRate);
        }
        // Only now: until then a Close of ours waits for what was read before it.
        self.stalled = stalled;
    }

    /// Puts to `src`'s account what has come, but not the answers that we asked for.
    fn charge<S: Transport>(&mut self, came: &Progress, begun: u64, src: &Leg<S>) {
        let Some(meter) = &mut self.meter else {
            return;
        };
        let mut messages = self.tracker.counts().messages - begun;
        let mut bytes = came.pass;
        if let Some(control) = &came.control {
            let own = control.opcode == Opcode::Pong && src.pulse.is_own(control.payload());
            messages += u64::from(!own && control.opcode != Opcode::Close);
            bytes += control.len;
        }
        meter.charge(bytes, messages);
    }

    /// Puts to `src`'s account what it has sent and nobody has read. Whether that is the end of it.
    fn charge_surplus(&mut self, bytes: usize) -> bool {
        let Some(meter) = self.meter.as_mut().filter(|_| bytes > 0) else {
            return false;
        };
        meter.charge(bytes, 0);
        meter.judge(None) == Verdict::Over
    }

    /// Whether a Ping from the backend is answered here: its client is known to live, and need not be asked again.
    fn answers_for<D: Transport>(&self, client: &Leg<D>, limits: &Limits, now: Instant) -> bool {
        let window = limits.answer_backend_ping;
        !self.masks && window.is_some_and(|window| client.pulse.proven_within(window, now))
    }
}

thread_local! {
    /// Room for a read behind the bytes that are held: the bound on what one direction may hold.
    static SCRATCH: RefCell<Box<[u8]>> = RefCell::new(vec![0; READ].into_boxed_slice());
}
