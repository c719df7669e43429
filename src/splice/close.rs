//! The end of a session: which leg receives which Close, the time limits of the closing handshake, and the lingering
//! close of a leg.

use crate::{
    proto::frame::{GOING_AWAY, NO_STATUS, POLICY_VIOLATION},
    registry::{CloseOrder, OrderCause, traffic::LegSide},
    splice::{
        leg::{Leg, LegIo},
        outcome::{EndReason, Initiator},
        pump::{LegEnd, MAX_DISCARDED, PendingClose},
        session::{ClosingState, Splice},
    },
};
use std::{
    future::poll_fn,
    mem::MaybeUninit,
    pin::Pin,
    task::{Context, Poll, ready},
    time::Duration,
};
use tokio::{
    io::ReadBuf,
    time::{Instant, timeout},
};

// === impl Splice ===

impl<C: LegIo, B: LegIo> Splice<C, B> {
    /// Closes the session for a reason that neither peer caused: both legs receive a Close.
    pub(crate) fn close_on_order(&mut self, why: EndReason, order: CloseOrder, now: Instant) {
        if self.closing.is_none() {
            let by = match order.cause {
                OrderCause::Operator => Initiator::Operator,
                _ => Initiator::Lockgate,
            };
            self.begin_closing(by, why, Some(order.code), now);
            // A Close in the early data may have been relayed already.
            for (pump, code, reason) in [
                (&mut self.to_client, order.code, order.reason),
                (&mut self.to_backend, GOING_AWAY, "".into()),
            ] {
                if !pump.close_sent {
                    pump.close = Some(PendingClose {
                        code,
                        reason,
                        // The rest of a message in flight may still arrive.
                        not_before: now + MESSAGE_GRACE,
                        between_messages: true,
                    });
                }
            }
        }
    }

    /// Handles the end of each leg once. Returns true if a leg has ended since the last call.
    pub(crate) fn handle_leg_ends(&mut self, now: Instant) -> bool {
        let mut handled = false;
        if let (Some(end), false) = (self.to_backend.ended, self.client_end_handled) {
            self.client_end_handled = true;
            self.handle_leg_end(LegSide::Client, end, now);
            handled = true;
        }
        if let (Some(end), false) = (self.to_client.ended, self.backend_end_handled) {
            self.backend_end_handled = true;
            self.handle_leg_end(LegSide::Backend, end, now);
            handled = true;
        }
        // A leg cannot be written to, and its end is not detected while the other leg is blocked: the wait is bounded.
        if self.client.broken && self.to_backend.ended.is_none() && self.to_backend.is_blocked() {
            self.begin_closing(Initiator::Client, EndReason::Gone, Some(GOING_AWAY), now);
        }
        if self.to_client.discard_limit_reached() {
            self.begin_closing(Initiator::Client, EndReason::Gone, Some(GOING_AWAY), now);
        }
        if self.backend.broken && self.to_client.ended.is_none() && self.to_client.is_blocked() {
            self.begin_closing(
                Initiator::Backend,
                EndReason::Gone,
                Some(self.limits.backend_gone_code),
                now,
            );
        }
        handled
    }

    /// Decides which leg receives which Close when `leg` has ended.
    ///
    /// | end of `leg` | Close to the other leg | Close to `leg` |
    /// |---|---|---|
    /// | Close received | that Close, which the pump has relayed | the answer of the other leg |
    /// | gone, ping timeout | the code of an earlier Close, otherwise the code of a lost leg | none |
    /// | violation | the same, at once | the code of the violation, after its answer or 50 ms |
    /// | over rate, slow reader | the same, unless `leg` ended inside a frame | 1008, likewise |
    /// | gone, ping timeout inside a frame | none: it would become part of the frame | none |
    ///
    /// The code of a lost leg is `backend_gone_code` to the client and 1001 to the backend.
    fn handle_leg_end(&mut self, leg: LegSide, end: LegEnd, now: Instant) {
        // `onward` leads from this leg to the other one, `back` from the other one to it.
        let (onward, back, lost_code) = match leg {
            LegSide::Backend => (
                &mut self.to_client,
                &mut self.to_backend,
                self.limits.backend_gone_code,
            ),
            LegSide::Client => (&mut self.to_backend, &mut self.to_client, GOING_AWAY),
        };
        // A rate limit or a slow reader, too, may end a leg inside a frame, into which nothing may be inserted.
        let truncated = onward.is_truncated();
        let (why, offender_code) = match end {
            LegEnd::Closed(_) => (EndReason::Closed, None),
            LegEnd::PingTimeout => (EndReason::PingTimeout, None),
            LegEnd::Gone if truncated => (EndReason::Truncated, None),
            LegEnd::Gone => (EndReason::Gone, None),
            LegEnd::Violation(violation) => (
                EndReason::Violation(violation),
                Some(violation.close_code()),
            ),
            LegEnd::OverRate => (EndReason::OverRate, Some(POLICY_VIOLATION)),
            LegEnd::SlowReader => (EndReason::SlowReader, Some(POLICY_VIOLATION)),
        };
        // A leg that drops TCP, or sends an invalid frame, instead of answering a Close still ends the closing
        // handshake: the other leg receives its own code back.
        let onward_code = match &self.closing {
            Some(ClosingState {
                why: EndReason::Closed,
                code,
                ..
            }) => code.unwrap_or(NO_STATUS),
            _ => lost_code,
        };
        let code = if let LegEnd::Closed(code) = end {
            code
        } else if let Some(offender_code) = offender_code {
            if truncated {
                onward.close = None;
            } else if !onward.close_sent && onward.close.is_none() {
                onward.close = Some(PendingClose {
                    code: onward_code,
                    reason: "".into(),
                    not_before: now,
                    between_messages: false,
                });
            }
            if !back.close_sent {
                // Frames of the other leg may be in flight; its answer or this time limit ends the wait.
                let wait = OFFENDER_CLOSE_DELAY.min(self.limits.close_timeout);
                back.close = Some(PendingClose {
                    code: offender_code,
                    reason: "".into(),
                    not_before: if truncated { now } else { now + wait },
                    between_messages: false,
                });
            }
            Some(offender_code)
        } else {
            if truncated {
                onward.close = None;
                back.close = None;
            } else if !onward.close_sent && onward.close.is_none() {
                onward.close = Some(PendingClose {
                    code: onward_code,
                    reason: "".into(),
                    not_before: now,
                    between_messages: false,
                });
            }
            // No Close can follow a truncated frame.
            (!truncated).then_some(onward_code)
        };
        if end == LegEnd::PingTimeout {
            match leg {
                LegSide::Client => self.client.broken = true,
                LegSide::Backend => self.backend.broken = true,
            }
        }
        self.begin_closing(leg.into(), why, code, now);
    }

    fn begin_closing(&mut self, by: Initiator, why: EndReason, code: Option<u16>, now: Instant) {
        let deadline = now + self.limits.close_timeout;
        // An answer to a Close must not be delayed by the rate limit.
        self.to_backend.unlimit_rate();
        self.closing.get_or_insert(ClosingState {
            by,
            why,
            code,
            deadline,
        });
    }

    /// Returns whether nothing is left to wait for, or the deadline has passed.
    pub(crate) fn is_over(&self, now: Instant) -> bool {
        let Some(closing) = &self.closing else {
            return false;
        };
        // Regardless of the first reason: after a truncated frame there is nothing to wait for.
        let finished = if self.to_backend.is_truncated() || self.to_client.is_truncated() {
            let blocked = self.to_backend.is_blocked() || self.to_client.is_blocked();
            !blocked && self.to_backend.close.is_none() && self.to_client.close.is_none()
        } else {
            self.to_backend.is_finished() && self.to_client.is_finished()
        };
        finished || self.to_client.discard_limit_reached() || now >= closing.deadline
    }
}

/// Sends close_notify and FIN, then discards input until EOF or [`LINGER`], because a reset would destroy the Close. A
/// peer that is dead or still accepts no bytes receives a reset, because a FIN would wait for it without limit.
pub(crate) async fn lingering_close<S: LegIo>(mut leg: Leg<S>, blocked: bool, end: Option<LegEnd>) {
    if blocked || end == Some(LegEnd::PingTimeout) {
        return leg.io.reset();
    }
    let _ = timeout(LINGER, async {
        leg.io.cork();
        let shut = poll_fn(|cx| Pin::new(&mut leg.io).poll_shutdown(cx)).await;
        if shut.is_ok() && end != Some(LegEnd::Gone) {
            let mut limit = MAX_DISCARDED;
            poll_fn(|cx| poll_discard(&mut leg.io, &mut limit, cx)).await;
        }
    })
    .await;
}

/// Reads and discards input until EOF or an error, at most [`MAX_DISCARDED`] bytes.
fn poll_discard<S: LegIo>(io: &mut S, limit: &mut usize, cx: &mut Context<'_>) -> Poll<()> {
    let mut scratch = [MaybeUninit::uninit(); 4096];
    while *limit > 0 {
        let mut buf = ReadBuf::uninit(&mut scratch);
        let read = ready!(Pin::new(&mut *io).poll_read(cx, &mut buf));
        if read.is_err() || buf.filled().is_empty() {
            return Poll::Ready(());
        }
        *limit = limit.saturating_sub(buf.filled().len());
    }
    Poll::Ready(())
}

/// Time that the Close of a violating leg waits for the last frames of the other leg.
const OFFENDER_CLOSE_DELAY: Duration = Duration::from_millis(50);

/// Time that the remaining fragments of a message have after a close order.
const MESSAGE_GRACE: Duration = Duration::from_secs(1);

/// Maximum duration of the lingering close; the socket is dropped afterwards.
const LINGER: Duration = Duration::from_secs(1);
