//! The reading half of a pump: reads, tracks frames and relays.

use super::{LegEnd, Pump, READ_BUF_LEN};
use crate::{
    proto::{frame::Opcode, track::Progress},
    splice::{
        SessionLimits,
        leg::{Leg, Transport},
        meter::RateDecision,
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
    /// Reads at most `room` bytes once and relays them.
    pub(super) fn poll_src<S: Transport, D: Transport>(
        &mut self,
        cx: &mut Context<'_>,
        src: &mut Leg<S>,
        dst: &mut Leg<D>,
        limits: &SessionLimits,
        room: usize,
        now: Instant,
    ) -> Poll<()> {
        ready!(src.io.poll_readable(cx));
        SCRATCH.with_borrow_mut(|scratch| {
            let most = self.unparsed.len().saturating_add(room).min(scratch.len());
            let mut buf = ReadBuf::new(&mut scratch[..most]);
            buf.put_slice(&self.unparsed);
            let read = Pin::new(&mut src.io).poll_read(cx, &mut buf);
            let surplus = src.io.take_discarded();
            if surplus > 0 {
                src.pulse.on_bytes(now);
            }
            if self.charge_surplus(surplus) && read.is_pending() {
                self.ended = Some(LegEnd::OverRate);
                return Poll::Ready(());
            }
            if ready!(read).is_err() || buf.filled().len() == self.unparsed.len() {
                let fault = src.io.violation();
                self.ended = Some(fault.map_or(LegEnd::Gone, LegEnd::Violation));
            } else {
                src.pulse.on_bytes(now);
                // Replaced instead of cleared, so that an idle session holds no buffer.
                self.unparsed = Vec::new();
                self.relay(cx, buf.filled(), src, dst, limits, now);
            }
            Poll::Ready(())
        })
    }

    /// Walks over `bytes`: relays valid frames, removes the Pongs that answer our Pings, inserts control frames that
    /// are due.
    pub(in crate::splice) fn relay_frames<S: Transport, D: Transport>(
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
            if self.passed.is_none() {
                self.passed = Some(Box::new(self.tracker.counts()));
            }
        }
        let of_messages;
        let bounds = match self.bounds_elsewhere {
            false => &limits.bounds,
            true => {
                of_messages = limits.bounds.from_messages();
                &of_messages
            }
        };
        // `bytes[from..at]` is parsed and not relayed yet: one write carries as many frames as possible.
        let (mut from, mut at) = (0, 0);
        let mut stalled = false;
        while at < bytes.len() {
            if let Some(meter) = &mut self.meter {
                let first = self.tracker.at_boundary().then(|| bytes[at]);
                match meter.decide(first) {
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
            let stop = due || self.meter.is_some();
            let begun = self.tracker.counts().messages;
            let progress = match self.tracker.advance(&bytes[at..], bounds, stop) {
                Ok(progress) => progress,
                Err(violation) => {
                    self.ended = Some(LegEnd::Violation(violation));
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
                        self.write(cx, &bytes[from..at], dst);
                        from = end;
                    }
                    Opcode::Pong => src.pulse.foreign_pong(),
                    Opcode::Ping if self.answers_backend_ping(dst, limits, now) => {
                        self.write(cx, &bytes[from..at], dst);
                        from = end;
                        src.pending_pong = Some(control);
                    }
                    Opcode::Ping => dst.pulse.relayed_ping(),
                    Opcode::Close => {
                        // A Close of ours that is due replaces this one, which answers ours or arrives too late.
                        let relayed = if self.close.is_some() { at } else { end };
                        src.close_received = true;
                        match self.close.is_none() && dst.close_received {
                            true => self.write_last(cx, &bytes[from..relayed], dst),
                            false => self.write(cx, &bytes[from..relayed], dst),
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
        if let Some(meter) = &mut self.meter
            && self.ended.is_none()
            && meter.decide(None) == RateDecision::Over
        {
            self.ended = Some(LegEnd::OverRate);
        }
        // Set only now: until then a Close of ours waits for the bytes that were read before it.
        self.stalled = stalled;
    }

    /// Charges `src` for the received bytes and messages, except for Pongs that answer our Pings.
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

    /// Charges `src` for bytes that it sent and that were not read here. Returns whether the session must end for it.
    fn charge_surplus(&mut self, bytes: usize) -> bool {
        let Some(meter) = self.meter.as_mut().filter(|_| bytes > 0) else {
            return false;
        };
        meter.charge(bytes, 0);
        meter.decide(None) == RateDecision::Over
    }

    /// Returns whether a Ping of the backend is answered here, because the client is known to be alive.
    fn answers_backend_ping<D: Transport>(
        &self,
        client: &Leg<D>,
        limits: &SessionLimits,
        now: Instant,
    ) -> bool {
        let window = limits.answer_backend_ping;
        !self.masks && window.is_some_and(|window| client.pulse.alive_within(window, now))
    }
}

thread_local! {
    /// Read buffer, filled after the held bytes: its size bounds what one direction may hold.
    static SCRATCH: RefCell<Box<[u8]>> = RefCell::new(vec![0; READ_BUF_LEN].into_boxed_slice());
}
