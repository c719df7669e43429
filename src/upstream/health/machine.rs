//! Up, down, ejected: which of them, by what was seen.
//!
//! Checks decide between up and down, with as many results in a row as `rise` and `fall` say; the first failure of a backend
//! that no check has seen well yet is enough, as in HAProxy. Failed dials and handshakes eject for a while. A backend that
//! checks have taken down is down, whatever sessions say.

use crate::config;
use std::{collections::VecDeque, net::IpAddr};
use tokio::time::Instant;

/// How a backend is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Condition {
    /// Takes sessions and requests.
    Up,
    /// Checks fail.
    Down,
    /// Sessions or requests failed, one after the other; it is left alone for a while.
    Ejected,
}

/// What is known of a backend.
#[derive(Debug, Default)]
pub(super) struct HealthState {
    down: bool,
    /// A check has gone well, or it is down: from now on it takes several in a row.
    known: bool,
    /// Results of checks in a row that speak against the condition.
    against: u32,
    /// When sessions and requests have failed, none of them older than `within`, since the last that did not; and whose
    /// leaving said so, if one's did.
    failures: VecDeque<(Instant, Option<IpAddr>)>,
    ejected: Option<Instant>,
    why: Option<String>,
}

// === impl Condition ===

impl Condition {
    /// A word of a closed set.
    pub fn as_str(self) -> &'static str {
        match self {
            Condition::Up => "up",
            Condition::Down => "down",
            Condition::Ejected => "ejected",
        }
    }
}

// === impl HealthState ===

impl HealthState {
    pub(super) fn condition(&self) -> Condition {
        match (self.down, self.ejected) {
            (true, _) => Condition::Down,
            (false, Some(_)) => Condition::Ejected,
            (false, None) => Condition::Up,
        }
    }

    /// What failed last, unless something went well since.
    pub(super) fn why(&self) -> Option<&String> {
        self.why.as_ref()
    }

    pub(super) fn ejected_until(&self) -> Option<Instant> {
        self.ejected
    }

    /// What a check has found.
    pub(super) fn checked(&mut self, found: Result<(), String>, rise: u32, fall: u32) {
        let enough = match (self.down, self.known) {
            (true, _) => rise,
            (false, true) => fall,
            (false, false) => 1,
        };
        if found.is_ok() == self.down {
            self.against = self.against.saturating_add(1);
        } else {
            self.against = 0;
        }
        self.known = true;
        if let Err(why) = found {
            self.why = Some(why);
        } else if !self.down && self.ejected.is_none() && self.failures.is_empty() {
            self.why = None;
        }
        if self.against < enough {
            return;
        }
        // It starts anew: what sessions met before is of no weight any more.
        *self = HealthState {
            down: !self.down,
            known: true,
            why: self.why.take().filter(|_| !self.down),
            ..HealthState::default()
        };
    }

    /// Checks are over, and what they found counts no more.
    pub(super) fn unchecked(&mut self) {
        if self.down {
            self.why = None;
        }
        (self.down, self.known, self.against) = (false, false, 0);
    }

    /// A session or a request has not reached it, or was not answered; or a client has `left` before it was, which counts
    /// once for each of them: one alone may be impatient, or mean it.
    pub(super) fn failed(
        &mut self,
        now: Instant,
        settings: &config::Passive,
        why: String,
        left: Option<IpAddr>,
    ) {
        self.why = Some(why);
        if self.condition() != Condition::Up || settings.fails == 0 {
            return;
        }
        self.failures
            .retain(|(then, _)| now.saturating_duration_since(*then) <= settings.within.0);
        if left.is_some() && self.failures.iter().any(|(_, who)| *who == left) {
            return;
        }
        self.failures.push_back((now, left));
        if self.failures.len() as u64 >= u64::from(settings.fails) {
            self.failures.clear();
            self.ejected = Some(now + settings.eject.0);
        }
    }

    /// A session or a request was answered: whatever it was, it is over. Checks have their own opinion.
    pub(super) fn answered(&mut self) {
        self.failures.clear();
        self.ejected = None;
        if !self.down && self.against == 0 {
            self.why = None;
        }
    }

    /// An ejection that has lasted long enough is over.
    pub(super) fn expire_ejection(&mut self, now: Instant) {
        if self.ejected.is_some_and(|until| until <= now) {
            self.ejected = None;
        }
    }
}

#[cfg(test)]
mod tests;
