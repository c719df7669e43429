//! State machine of a backend's health: up, down or ejected.
//!
//! Health checks decide between up and down, after as many equal results in a row as `rise` and `fall` configure. The
//! first failure of a backend without a successful check is enough, as in HAProxy. Failed dials and handshakes eject
//! for a limited time. A backend that health checks have marked down stays down regardless of sessions.
//!
//! Failed connects eject if they are consecutive, however long that takes: a connect that times out takes seconds. Such
//! an ejection ends only with a connect of Lockgate's own, and not before its time. A backend whose last connect had no
//! answer in time is the last choice ([`HealthTier`]) until one succeeds; in the meantime Lockgate connects by itself
//! ([`HealthState::probe_due`]).
//!
//! A request that was not answered is evidence about the backend or about its client: a server may leave a request
//! unanswered because of what the client has sent. Such failures count once per client, and eject only if two clients
//! have them, or if no other client used the backend. A failed connection is evidence about the backend alone.

use crate::{
    config, net::subnet::SubnetKey, observe::logging::ErrorChain,
    upstream::health::error::CheckError,
};
use std::{collections::VecDeque, time::Duration};
use tokio::time::Instant;

/// The condition of a backend.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Condition {
    /// Accepts sessions and requests.
    Up,
    /// Health checks fail.
    Down,
    /// Sessions or requests failed repeatedly; the backend is not used for a limited time.
    Ejected,
}

/// The recorded results of one backend.
#[derive(Debug, Default)]
pub(crate) struct HealthState {
    down: bool,
    /// Whether a check has succeeded or the backend is down: from then on a change takes several results in a row.
    known: bool,
    /// Consecutive check results that contradict the condition.
    against: u32,
    /// Times of failed sessions and requests since the last success, none older than `within`; with the client, if its
    /// request may have caused the failure.
    failures: VecDeque<(Instant, Option<SubnetKey>)>,
    ejected: Option<Instant>,
    /// Consecutive failed connects.
    failed_connects: u32,
    /// Whether the last connect had no answer in time.
    timed_out: bool,
    /// The earliest time of the next connect probe.
    next_probe: Option<Instant>,
    /// Consecutive failed connect probes.
    failed_probes: u32,
    why: Option<String>,
}

/// The health of a backend as a pick compares it: the higher, the better.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct HealthTier(u8);

/// What a failed session or request is evidence about.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum FailureSource {
    /// The backend was not reached.
    Connect {
        /// Whether nothing answered in time, as opposed to a refusal.
        timed_out: bool,
    },
    /// The backend was reached and has not answered, or `client` has disconnected after a long wait.
    Client {
        client: SubnetKey,
        /// Whether no other client used the backend within `passive.within`.
        is_only: bool,
    },
}

// === impl Condition ===

impl Condition {
    /// Returns the word of a closed set.
    pub fn as_str(self) -> &'static str {
        match self {
            Condition::Up => "up",
            Condition::Down => "down",
            Condition::Ejected => "ejected",
        }
    }
}

// === impl HealthTier ===

impl HealthTier {
    /// Down or ejected, and the last connect had no answer in time.
    pub(crate) const UNHEALTHY_AND_SILENT: HealthTier = HealthTier(0);
    /// Down or ejected.
    pub(crate) const UNHEALTHY: HealthTier = HealthTier(1);
    /// Up, but the last connect had no answer in time.
    pub(crate) const SILENT: HealthTier = HealthTier(2);
    /// Up.
    pub(crate) const UP: HealthTier = HealthTier(3);

    /// Returns the tier of its number; for storage in an atomic.
    pub(crate) fn from_bits(bits: u8) -> Self {
        HealthTier(bits)
    }

    /// Returns its number.
    pub(crate) fn bits(self) -> u8 {
        self.0
    }

    /// Returns whether the last connect had no answer in time.
    pub(crate) fn is_silent(self) -> bool {
        matches!(self, HealthTier::UNHEALTHY_AND_SILENT | HealthTier::SILENT)
    }
}

// === impl HealthState ===

impl HealthState {
    pub(crate) fn tier(&self) -> HealthTier {
        match (self.condition(), self.timed_out) {
            (Condition::Up, false) => HealthTier::UP,
            (Condition::Up, true) => HealthTier::SILENT,
            (Condition::Down | Condition::Ejected, false) => HealthTier::UNHEALTHY,
            (Condition::Down | Condition::Ejected, true) => HealthTier::UNHEALTHY_AND_SILENT,
        }
    }

    pub(crate) fn condition(&self) -> Condition {
        match (self.down, self.ejected) {
            (true, _) => Condition::Down,
            (false, Some(_)) => Condition::Ejected,
            (false, None) => Condition::Up,
        }
    }

    /// Returns the last failure, unless there was a success since.
    pub(crate) fn why(&self) -> Option<&String> {
        self.why.as_ref()
    }

    pub(crate) fn ejected_until(&self) -> Option<Instant> {
        self.ejected
    }

    /// Records the result of a health check.
    pub(crate) fn record_check(&mut self, found: Result<(), CheckError>, rise: u32, fall: u32) {
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
        if found.is_ok() {
            self.record_connected();
        }
        if let Err(error) = found {
            self.why = Some(ErrorChain(&error).to_string());
        } else if !self.down && self.ejected.is_none() && self.failures.is_empty() {
            self.why = None;
        }
        if self.against < enough {
            return;
        }
        // The new condition starts without recorded failures.
        *self = HealthState {
            down: !self.down,
            known: true,
            why: self.why.take().filter(|_| !self.down),
            ..HealthState::default()
        };
    }

    /// Discards the results of health checks because they have been turned off.
    pub(crate) fn forget_checks(&mut self) {
        if self.down {
            self.why = None;
        }
        (self.down, self.known, self.against) = (false, false, 0);
    }

    /// Records that a session or request did not reach the backend or was not answered.
    pub(crate) fn record_failure(
        &mut self,
        now: Instant,
        settings: &config::Passive,
        why: String,
        source: FailureSource,
    ) {
        self.why = Some(why);
        if let FailureSource::Connect { timed_out } = source {
            self.failed_connects = self.failed_connects.saturating_add(1);
            self.timed_out |= timed_out;
            self.next_probe.get_or_insert(now);
        }
        if self.condition() != Condition::Up || settings.fails == 0 {
            return;
        }
        self.failures
            .retain(|(then, _)| now.saturating_duration_since(*then) <= settings.within.0);
        let (client, is_only) = match source {
            FailureSource::Connect { .. } => (None, false),
            FailureSource::Client { client, is_only } => (Some(client), is_only),
        };
        if client.is_none() || !self.failures.iter().any(|(_, other)| *other == client) {
            self.failures.push_back((now, client));
        }
        let is_enough = |count: usize| count as u64 >= u64::from(settings.fails);
        let clients = self.failures.iter().filter(|(_, client)| client.is_some());
        let is_ejected = match clients.count() {
            // One client alone is no evidence about the backend.
            1 if !is_only => is_enough(self.failures.len() - 1),
            _ => is_enough(self.failures.len()),
        };
        if is_ejected || self.failed_connects >= settings.fails {
            self.failures.clear();
            self.ejected = Some(now + settings.eject.0);
        }
    }

    /// Records that a connection was established.
    pub(crate) fn record_connected(&mut self) {
        (self.failed_connects, self.failed_probes) = (0, 0);
        (self.timed_out, self.next_probe) = (false, None);
    }

    /// Returns when a connect probe is due: at the end of an ejection by failed connects, and as long as the last
    /// connect had no answer in time. A backend that is down has health checks instead.
    pub(crate) fn probe_due(&self) -> Option<Instant> {
        let next = self.next_probe?;
        match self.condition() {
            Condition::Down => None,
            Condition::Ejected => self.ejected.map(|until| until.max(next)),
            Condition::Up => self.timed_out.then_some(next),
        }
    }

    /// Records the result of a connect probe; `Err`: the cause, and whether nothing answered in time.
    pub(crate) fn record_probe(
        &mut self,
        now: Instant,
        settings: &config::Passive,
        result: Result<(), (String, bool)>,
    ) {
        match result {
            Ok(()) => {
                self.record_connected();
                self.expire_ejection(now);
            }
            Err((why, timed_out)) => {
                self.record_failure(now, settings, why, FailureSource::Connect { timed_out });
                self.postpone_probe(now);
            }
        }
    }

    /// Sets the time of the next connect probe; the interval grows with each one.
    pub(crate) fn postpone_probe(&mut self, now: Instant) {
        let interval = PROBE_INTERVAL * 2_u32.pow(self.failed_probes.min(8));
        self.failed_probes = self.failed_probes.saturating_add(1);
        self.next_probe = Some(now + interval.min(MAX_PROBE_INTERVAL));
    }

    /// Records that a plain request was answered. The backend can be connected to, and nothing is known about its
    /// handshakes: failed ones still count, and an ejection ends at its time.
    pub(crate) fn record_plain_response(&mut self) {
        self.record_connected();
        self.failures.retain(|(_, client)| client.is_some());
        let has_failures = !self.failures.is_empty() || self.ejected.is_some();
        if !self.down && self.against == 0 && !has_failures {
            self.why = None;
        }
    }

    /// Records that a handshake was answered, which ends an ejection. Health checks are not affected.
    pub(crate) fn record_response(&mut self) {
        self.failures.clear();
        self.ejected = None;
        self.record_connected();
        if !self.down && self.against == 0 {
            self.why = None;
        }
    }

    /// Ends an ejection whose time has passed, unless it waits for a connect probe.
    pub(crate) fn expire_ejection(&mut self, now: Instant) {
        if self.ejection_ends().is_some_and(|until| until <= now) {
            self.ejected = None;
        }
    }

    /// Returns when the ejection ends; `None` if there is none, or if it waits for a connect probe.
    pub(crate) fn ejection_ends(&self) -> Option<Instant> {
        self.ejected.filter(|_| self.failed_connects == 0)
    }
}

/// The time from a failed connect probe to the next one, at first; it doubles with each.
const PROBE_INTERVAL: Duration = Duration::from_secs(1);

/// The maximum of that time, like the default of `health.interval`.
const MAX_PROBE_INTERVAL: Duration = Duration::from_secs(5);

#[cfg(test)]
mod tests;
