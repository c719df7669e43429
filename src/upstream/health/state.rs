//! State machine of a backend's health: up, down or ejected.
//!
//! Health checks decide between up and down, after as many equal results in a row as `rise` and `fall` configure. The
//! first failure of a backend without a successful check is enough, as in HAProxy. Failed dials and handshakes eject
//! for a limited time. A backend that health checks have marked down stays down regardless of sessions.
//!
//! A request that was not answered is evidence about the backend or about its client: a server may leave a request
//! unanswered because of what the client has sent. Such failures count once per client, and eject only if two clients
//! have them, or if no other client used the backend. A failed connection is evidence about the backend alone.

use crate::{
    config, net::subnet::SubnetKey, observe::logging::ErrorChain,
    upstream::health::error::CheckError,
};
use std::collections::VecDeque;
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
    why: Option<String>,
}

/// What a failed session or request is evidence about.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum FailureSource {
    /// The backend was not reached.
    Backend,
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

// === impl HealthState ===

impl HealthState {
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
        if self.condition() != Condition::Up || settings.fails == 0 {
            return;
        }
        self.failures
            .retain(|(then, _)| now.saturating_duration_since(*then) <= settings.within.0);
        let (client, is_only) = match source {
            FailureSource::Backend => (None, false),
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
        if is_ejected {
            self.failures.clear();
            self.ejected = Some(now + settings.eject.0);
        }
    }

    /// Records that a session or request was answered, which ends an ejection. Health checks are not affected.
    pub(crate) fn record_response(&mut self) {
        self.failures.clear();
        self.ejected = None;
        if !self.down && self.against == 0 {
            self.why = None;
        }
    }

    /// Ends an ejection whose time has passed.
    pub(crate) fn expire_ejection(&mut self, now: Instant) {
        if self.ejected.is_some_and(|until| until <= now) {
            self.ejected = None;
        }
    }
}

#[cfg(test)]
mod tests;
