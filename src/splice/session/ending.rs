//! How a session ends: who gets which Close, and how long anybody waits.

use super::Session;
use crate::{
    observe::CloseOrder,
    splice::{
        Transport, Side, Why,
        pump::{CloseDue, End},
    },
};
use std::time::Duration;
use tokio::time::Instant;

/// The first reason to end, and when patience ends.
pub(super) struct Ending {
    pub(super) by: Side,
    pub(super) why: Why,
    pub(super) code: Option<u16>,
    pub(super) deadline: Instant,
}

// === impl Session ===

impl<C: Transport, B: Transport> Session<C, B> {
    /// It must end, and nobody is to blame: both legs get their Close.
    pub(super) fn obey(&mut self, why: Why, order: CloseOrder, now: Instant) {
        if self.ending.is_none() {
            let by = match order.by_operator {
                true => Side::Operator,
                false => Side::Lockgate,
            };
            self.begin(by, why, Some(order.code), now);
            // An early Close may have been relayed already.
            for (pump, code, reason) in [
                (&mut self.down, order.code, order.reason),
                (&mut self.up, GOING_AWAY, "".into()),
            ] {
                if !pump.shut {
                    pump.close = Some(CloseDue {
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
    pub(super) fn settle(&mut self, now: Instant) -> bool {
        let mut acted = false;
        if let (Some(end), false) = (self.up.ended, self.settled.0) {
            self.settled.0 = true;
            self.leg_ended(Side::Client, end, now);
            acted = true;
        }
        if let (Some(end), false) = (self.down.ended, self.settled.1) {
            self.settled.1 = true;
            self.leg_ended(Side::Backend, end, now);
            acted = true;
        }
        // A leg that cannot be written to, nor read because the other one is stuck: that one's time is limited, too.
        if self.client.broken && self.up.ended.is_none() && self.up.is_stuck() {
            self.begin(Side::Client, Why::Gone, Some(GOING_AWAY), now);
        }
        if self.down.is_futile() {
            self.begin(Side::Client, Why::Gone, Some(GOING_AWAY), now);
        }
        if self.backend.broken && self.down.ended.is_none() && self.down.is_stuck() {
            self.begin(
                Side::Backend,
                Why::Gone,
                Some(self.limits.backend_gone_code),
                now,
            );
        }
        acted
    }

    /// Decides who gets which Close when nothing more comes from `side`.
    fn leg_ended(&mut self, side: Side, end: End, now: Instant) {
        // `onward` leads from this leg to the other one, `back` from the other one to it.
        let (onward, back, code) = match side {
            Side::Backend => (&mut self.down, &mut self.up, self.limits.backend_gone_code),
            _ => (&mut self.up, &mut self.down, GOING_AWAY),
        };
        let (why, code) = match end {
            End::Closed(code) => (Why::Closed, code),
            End::Gone | End::Dead => {
                let cut = onward.is_cut();
                let why = match end {
                    End::Dead => Why::PingTimeout,
                    _ if cut => Why::Cut,
                    _ => Why::Gone,
                };
                // A leg that drops TCP instead of answering a Close has ended the handshake all the same: whoever
                // began it gets its own code back.
                let code = match &self.ending {
                    Some(Ending {
                        why: Why::Closed,
                        code,
                        ..
                    }) => code.unwrap_or(NO_STATUS),
                    _ => code,
                };
                if cut {
                    onward.close = None;
                    back.close = None;
                } else if !onward.shut && onward.close.is_none() {
                    onward.close = Some(CloseDue {
                        code,
                        reason: "".into(),
                        not_before: now,
                        between_messages: false,
                    });
                }
                // Nobody is told a code behind half a frame.
                (why, (!cut).then_some(code))
            }
            End::Violation(_) | End::OverRate | End::SlowReader => {
                let (why, own) = match end {
                    End::Violation(violation) => {
                        (Why::Violation(violation), violation.close_code())
                    }
                    End::OverRate => (Why::OverRate, POLICY),
                    _ => (Why::SlowReader, POLICY),
                };
                // Only a rate can be reached inside a frame: nothing may be put behind its first half.
                let cut = onward.is_cut();
                if cut {
                    onward.close = None;
                } else if !onward.shut && onward.close.is_none() {
                    onward.close = Some(CloseDue {
                        code,
                        reason: "".into(),
                        not_before: now,
                        between_messages: false,
                    });
                }
                if !back.shut {
                    // Frames of the other leg may be on their way; its answer, or this moment, ends the wait.
                    let wait = OFFENDER_WAITS.min(self.limits.close_timeout);
                    back.close = Some(CloseDue {
                        code: own,
                        reason: "".into(),
                        not_before: if cut { now } else { now + wait },
                        between_messages: false,
                    });
                }
                (why, Some(own))
            }
        };
        if end == End::Dead {
            match side {
                Side::Backend => self.backend.broken = true,
                _ => self.client.broken = true,
            }
        }
        self.begin(side, why, code, now);
    }

    fn begin(&mut self, by: Side, why: Why, code: Option<u16>, now: Instant) {
        let deadline = now + self.limits.close_timeout;
        // An answer to a Close must not wait for its turn.
        self.up.unlimit_rate();
        self.ending.get_or_insert(Ending {
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
        let through = if self.up.is_cut() || self.down.is_cut() {
            let stuck = self.up.is_stuck() || self.down.is_stuck();
            !stuck && self.up.close.is_none() && self.down.close.is_none()
        } else {
            self.up.is_finished() && self.down.is_finished()
        };
        through || self.down.is_futile() || now >= ending.deadline
    }
}

/// RFC 6455 §7.4.1: never on the wire; as our code it makes a Close without one.
const NO_STATUS: u16 = 1005;
/// RFC 6455 §7.4.1: what a backend is told when its client is gone, by whatever cause.
const GOING_AWAY: u16 = 1001;
/// RFC 6455 §7.4.1: who sends more, or reads less, than the policy allows.
const POLICY: u16 = 1008;
/// How long an offender's Close waits for the last frames of the other leg.
const OFFENDER_WAITS: Duration = Duration::from_millis(50);

/// What the fragments of a message may still take when its session is ordered to close.
const MESSAGE_GRACE: Duration = Duration::from_secs(1);
