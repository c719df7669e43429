//! How a session ends: who gets which Close, and how long anybody waits.

use super::Splice;
use crate::{
    observe::CloseOrder,
    splice::{
        EndReason, Initiator, Transport,
        pump::{LegEnd, PendingClose},
    },
};
use std::time::Duration;
use tokio::time::Instant;

/// The first reason to end, and when patience ends.
pub(super) struct ClosingState {
    pub(super) by: Initiator,
    pub(super) why: EndReason,
    pub(super) code: Option<u16>,
    pub(super) deadline: Instant,
}

// === impl Splice ===

impl<C: Transport, B: Transport> Splice<C, B> {
    /// It must end, and nobody is to blame: both legs get their Close.
    pub(super) fn close_on_order(&mut self, why: EndReason, order: CloseOrder, now: Instant) {
        if self.ending.is_none() {
            let by = match order.by_operator {
                true => Initiator::Operator,
                false => Initiator::Lockgate,
            };
            self.begin(by, why, Some(order.code), now);
            // An early Close may have been relayed already.
            for (pump, code, reason) in [
                (&mut self.to_client, order.code, order.reason),
                (&mut self.to_backend, GOING_AWAY, "".into()),
            ] {
                if !pump.close_sent {
                    pump.close = Some(PendingClose {
                        code,
                        reason,
                        // The rest of a message that is on its way may still come.
                        not_before: now + MESSAGE_GRACE,
                        between_messages: true,
                    });
                }
            }
        }
    }

    /// Acts on the end of a leg, once. True if there was something to act on.
    pub(super) fn handle_leg_ends(&mut self, now: Instant) -> bool {
        let mut acted = false;
        if let (Some(end), false) = (self.to_backend.ended, self.client_end_handled.0) {
            self.client_end_handled.0 = true;
            self.leg_ended(Initiator::Client, end, now);
            acted = true;
        }
        if let (Some(end), false) = (self.to_client.ended, self.client_end_handled.1) {
            self.client_end_handled.1 = true;
            self.leg_ended(Initiator::Backend, end, now);
            acted = true;
        }
        // A leg that cannot be written to, nor read because the other one is stuck: that one's time is limited, too.
        if self.client.broken && self.to_backend.ended.is_none() && self.to_backend.is_blocked() {
            self.begin(Initiator::Client, EndReason::Gone, Some(GOING_AWAY), now);
        }
        if self.to_client.discard_limit_reached() {
            self.begin(Initiator::Client, EndReason::Gone, Some(GOING_AWAY), now);
        }
        if self.backend.broken && self.to_client.ended.is_none() && self.to_client.is_blocked() {
            self.begin(
                Initiator::Backend,
                EndReason::Gone,
                Some(self.limits.backend_gone_code),
                now,
            );
        }
        acted
    }

    /// Decides who gets which Close when nothing more comes from `side`.
    fn leg_ended(&mut self, side: Initiator, end: LegEnd, now: Instant) {
        // `onward` leads from this leg to the other one, `back` from the other one to it.
        let (onward, back, code) = match side {
            Initiator::Backend => (
                &mut self.to_client,
                &mut self.to_backend,
                self.limits.backend_gone_code,
            ),
            _ => (&mut self.to_backend, &mut self.to_client, GOING_AWAY),
        };
        let (why, code) = match end {
            LegEnd::Closed(code) => (EndReason::Closed, code),
            LegEnd::Gone | LegEnd::PingTimeout => {
                let cut = onward.is_truncated();
                let why = match end {
                    LegEnd::PingTimeout => EndReason::PingTimeout,
                    _ if cut => EndReason::Truncated,
                    _ => EndReason::Gone,
                };
                // A leg that drops TCP instead of answering a Close has ended the handshake all the same: whoever
                // began it gets its own code back.
                let code = match &self.ending {
                    Some(ClosingState {
                        why: EndReason::Closed,
                        code,
                        ..
                    }) => code.unwrap_or(NO_STATUS),
                    _ => code,
                };
                if cut {
                    onward.close = None;
                    back.close = None;
                } else if !onward.close_sent && onward.close.is_none() {
                    onward.close = Some(PendingClose {
                        code,
                        reason: "".into(),
                        not_before: now,
                        between_messages: false,
                    });
                }
                // Nobody is told a code behind half a frame.
                (why, (!cut).then_some(code))
            }
            LegEnd::Violation(_) | LegEnd::OverRate | LegEnd::SlowReader => {
                let (why, own) = match end {
                    LegEnd::Violation(violation) => {
                        (EndReason::Violation(violation), violation.close_code())
                    }
                    LegEnd::OverRate => (EndReason::OverRate, POLICY),
                    _ => (EndReason::SlowReader, POLICY),
                };
                // Only a rate can be reached inside a frame: nothing may be put behind its first half.
                let cut = onward.is_truncated();
                if cut {
                    onward.close = None;
                } else if !onward.close_sent && onward.close.is_none() {
                    onward.close = Some(PendingClose {
                        code,
                        reason: "".into(),
                        not_before: now,
                        between_messages: false,
                    });
                }
                if !back.close_sent {
                    // Frames of the other leg may be on their way; its answer, or this moment, ends the wait.
                    let wait = OFFENDER_CLOSE_DELAY.min(self.limits.close_timeout);
                    back.close = Some(PendingClose {
                        code: own,
                        reason: "".into(),
                        not_before: if cut { now } else { now + wait },
                        between_messages: false,
                    });
                }
                (why, Some(own))
            }
        };
        if end == LegEnd::PingTimeout {
            match side {
                Initiator::Backend => self.backend.broken = true,
                _ => self.client.broken = true,
            }
        }
        self.begin(side, why, code, now);
    }

    fn begin(&mut self, by: Initiator, why: EndReason, code: Option<u16>, now: Instant) {
        let deadline = now + self.limits.close_timeout;
        // An answer to a Close must not wait for its turn.
        self.to_backend.unlimit_rate();
        self.ending.get_or_insert(ClosingState {
            by,
            why,
            code,
            deadline,
        });
    }

    /// Whether there is nothing left to wait for, or no patience.
    pub(super) fn is_over(&self, now: Instant) -> bool {
        let Some(ending) = &self.ending else {
            return false;
        };
        // Whatever came first: behind half a frame there is nothing to wait for.
        let through = if self.to_backend.is_truncated() || self.to_client.is_truncated() {
            let stuck = self.to_backend.is_blocked() || self.to_client.is_blocked();
            !stuck && self.to_backend.close.is_none() && self.to_client.close.is_none()
        } else {
            self.to_backend.is_finished() && self.to_client.is_finished()
        };
        through || self.to_client.discard_limit_reached() || now >= ending.deadline
    }
}

/// RFC 6455 §7.4.1: never on the wire; as our code it makes a Close without one.
const NO_STATUS: u16 = 1005;
/// RFC 6455 §7.4.1: what a backend is told when its client is gone, by whatever cause.
const GOING_AWAY: u16 = 1001;
/// RFC 6455 §7.4.1: who sends more, or reads less, than the policy allows.
const POLICY: u16 = 1008;
/// How long an offender's Close waits for the last frames of the other leg.
const OFFENDER_CLOSE_DELAY: Duration = Duration::from_millis(50);

/// What the fragments of a message may still take when its session is ordered to close.
const MESSAGE_GRACE: Duration = Duration::from_secs(1);
