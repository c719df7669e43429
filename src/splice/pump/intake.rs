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
    /// Reads at most `max_bytes` bytes once and relays them.
    pub(super) fn poll_src<S: Transport, D: Transport>(
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
            let discarded = src.io.take_discarded();
            if discarded > 0 {
                src.keepalive.on_bytes(now);
            }
            if self.charge_discarded(discarded) && read.is_pending() {
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

    /// Relays the valid frames in `bytes`, removes Pongs that answer our Pings, inserts control frames that are due.
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
            if let Some(limiter) = &mut self.limiter {
                let first = self.tracker.at_boundary().then(|| bytes[at]);
                match limiter.decide(first) {
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
            let messages_before = self.tracker.counts().messages;
            let progress = match self.tracker.advance(&bytes[at..], bounds, stop_at_boundary) {
                Ok(progress) => progress,
                Err(violation) => {
                    self.ended = Some(LegEnd::Violation(violation));
                    break;
                }
            };
            at += progress.pass;
            self.data_relayed |= progress.pass > 0;
            self.charge(&progress, messages_before, src);
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
            && limiter.decide(None) == RateDecision::Over
        {
            self.ended = Some(LegEnd::OverRate);
        }
        // Set only now: while it is set, a Close of ours waits for the bytes that were read before it.
        self.stalled = stalled;
    }

    /// Charges `src` for the received bytes and messages, except for Pongs that answer our Pings.
    fn charge<S: Transport>(&mut self, progress: &Progress, messages_before: u64, src: &Leg<S>) {
        let Some(limiter) = &mut self.limiter else {
            return;
        };
        let mut messages = self.tracker.counts().messages - messages_before;
        let mut bytes = progress.pass;
        if let Some(control) = &progress.control {
            let is_own =
                control.opcode == Opcode::Pong && src.keepalive.is_own_pong(control.payload());
            messages += u64::from(!is_own && control.opcode != Opcode::Close);
            bytes += control.len;
        }
        limiter.charge(bytes, messages);
    }

    /// Charges `src` for bytes that it sent and that no read returned. Returns whether the session must close for it.
    fn charge_discarded(&mut self, bytes: usize) -> bool {
        let Some(limiter) = self.limiter.as_mut().filter(|_| bytes > 0) else {
            return false;
        };
        limiter.charge(bytes, 0);
        limiter.decide(None) == RateDecision::Over
    }

    /// Returns whether a Ping of the backend is answered here, because the client is known to be alive.
    fn answers_backend_ping<D: Transport>(
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
