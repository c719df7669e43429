//! The health of a backend, from health checks and from sessions.
//!
//! This module holds the state of one backend, shared by all pools that use it. It has no clock: callers pass the time.
//! The state machine is in `health/state.rs`, the check itself in `health/check.rs`, its schedule in
//! `health/checker.rs`, and the connect probes in `health/probe.rs`.

pub(crate) mod check;
pub(crate) mod checker;
pub(crate) mod error;
pub(crate) mod probe;
pub(crate) mod state;

use crate::{
    config,
    upstream::{
        health::{
            error::CheckError,
            state::{Condition, FailureSource, HealthState, HealthTier},
        },
        slow_start::SlowStart,
    },
};
use std::{
    sync::{
        Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, AtomicU8, Ordering},
    },
    time::Duration,
};
use tokio::{sync::Notify, time::Instant};

/// A backend's health: written by health checks and failed handshakes, read by every pick.
#[derive(Debug)]
pub struct BackendHealth {
    /// The bits of the [`HealthTier`] as a pick reads it, without a lock.
    tier: AtomicU8,
    /// Whether something has failed since the last success; only then does a success take the lock.
    has_failures: AtomicBool,
    record: Mutex<HealthRecord>,
    slow_start: SlowStart,
    /// Wakes the checker task: a change must be logged, or an ejection has begun; also for changes of the other states.
    changed: Notify,
    /// Wakes the connect probes: the time of the next one has changed.
    probe_changed: Notify,
}

#[derive(Debug, Default)]
struct HealthRecord {
    state: HealthState,
    /// Changes that have not been logged yet.
    pending: Vec<HealthChange>,
}

/// A change of a backend's condition.
#[derive(Debug, Clone, PartialEq, Eq)]
struct HealthChange {
    to: Condition,
    /// The last failure at the time of the change, if there is one.
    why: Option<String>,
}

// === impl BackendHealth ===

impl BackendHealth {
    /// Creates the health of a backend without results: it counts as up.
    pub(crate) fn new() -> Self {
        BackendHealth {
            tier: AtomicU8::new(HealthTier::UP.bits()),
            has_failures: AtomicBool::new(false),
            record: Mutex::default(),
            slow_start: SlowStart::default(),
            changed: Notify::new(),
            probe_changed: Notify::new(),
        }
    }

    /// Returns whether it is neither down nor ejected.
    pub(crate) fn is_up(&self) -> bool {
        self.tier() >= HealthTier::SILENT
    }

    /// Returns its tier, by which a pick prefers backends.
    pub(crate) fn tier(&self) -> HealthTier {
        HealthTier::from_bits(self.tier.load(Ordering::Acquire))
    }

    /// Returns the slow start of the backend, which begins whenever it is up again.
    pub(crate) fn slow_start(&self) -> &SlowStart {
        &self.slow_start
    }

    /// Returns its condition, and the last failure unless there was a success since.
    pub fn condition(&self) -> (Condition, Option<String>) {
        let record = self.lock();
        (record.state.condition(), record.state.why().cloned())
    }

    /// Returns for how much longer it is ejected, or the time until the connect probe that may end the ejection; `None`
    /// if it is not, or health checks have marked it down.
    pub fn ejected_for(&self, now: Instant) -> Option<Duration> {
        let record = self.lock();
        let ejected = record.state.condition() == Condition::Ejected;
        let until = record.state.probe_due().or(record.state.ejected_until());
        let until = until.filter(|_| ejected)?;
        Some(until.saturating_duration_since(now))
    }

    /// Records that a handshake was answered.
    pub(crate) fn record_response(&self) {
        if self.has_failures.load(Ordering::Relaxed) {
            self.change(HealthState::record_response);
        }
    }

    /// Records that a plain request was answered.
    pub(crate) fn record_plain_response(&self) {
        if self.has_failures.load(Ordering::Relaxed) {
            self.change(HealthState::record_plain_response);
        }
    }

    /// Records that a session or request has not reached it, or was not answered.
    pub(crate) fn record_failure(
        &self,
        now: Instant,
        settings: &config::Passive,
        why: String,
        source: FailureSource,
    ) {
        self.change(|state| state.record_failure(now, settings, why, source));
    }

    /// Records that a connection was established. Returns whether it was the last choice until now.
    pub(crate) fn record_connected(&self) -> bool {
        let is_silent = self.tier().is_silent();
        if is_silent || self.has_failures.load(Ordering::Relaxed) {
            self.change(HealthState::record_connected);
        }
        is_silent
    }

    /// Returns when a connect probe is due; `None` if none is needed.
    fn probe_due(&self) -> Option<Instant> {
        self.lock().state.probe_due()
    }

    /// Records the result of a connect probe; `Err`: the cause, and whether nothing answered in time.
    fn record_probe(&self, settings: &config::Passive, result: Result<(), (String, bool)>) {
        self.change(|state| state.record_probe(Instant::now(), settings, result));
    }

    /// Postpones a connect probe that had no result.
    fn postpone_probe(&self) {
        self.change(|state| state.postpone_probe(Instant::now()));
    }

    /// Records the result of a health check.
    fn record_check(&self, found: Result<(), CheckError>, settings: &config::Health) {
        self.change(|state| state.record_check(found, settings.rise, settings.fall));
    }

    /// Records that it is not health-checked any longer.
    fn forget_checks(&self) {
        self.change(HealthState::forget_checks);
    }

    /// Ends an ejection whose time has passed.
    fn expire_ejection(&self, now: Instant) {
        self.change(|state| state.expire_ejection(now));
    }

    /// Returns when [`BackendHealth::expire_ejection`] will change the condition.
    fn ejection_ends(&self) -> Option<Instant> {
        self.lock().state.ejection_ends()
    }

    /// Notifies the checker task that another state it logs has changed.
    pub(crate) fn notify(&self) {
        self.changed.notify_one();
    }

    fn take_changes(&self) -> Vec<HealthChange> {
        std::mem::take(&mut self.lock().pending)
    }

    fn change(&self, act: impl FnOnce(&mut HealthState)) {
        let mut record = self.lock();
        let times = |state: &HealthState| (state.ejection_ends(), state.probe_due());
        let (before, times_before) = (record.state.condition(), times(&record.state));
        act(&mut record.state);
        let to = record.state.condition();
        if to == Condition::Up && before != Condition::Up {
            // Before a pick sees that it is up.
            self.slow_start.begin(Instant::now());
        }
        let tier = record.state.tier();
        self.tier.store(tier.bits(), Ordering::Release);
        let has_failures = record.state.why().is_some();
        self.has_failures.store(has_failures, Ordering::Relaxed);
        if times(&record.state) != times_before {
            self.probe_changed.notify_one();
            self.changed.notify_one();
        }
        if to == before {
            return;
        }
        let why = record.state.why().cloned();
        // Bounded, because in a gateway that is not active no task takes them.
        if record.pending.len() == MAX_PENDING_CHANGES {
            record.pending.remove(0);
        }
        record.pending.push(HealthChange { to, why });
        self.changed.notify_one();
    }

    // No panic can occur while the record is only partly updated.
    fn lock(&self) -> MutexGuard<'_, HealthRecord> {
        self.record.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Far more than occur before the checker task runs.
const MAX_PENDING_CHANGES: usize = 16;
