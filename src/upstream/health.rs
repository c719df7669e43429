//! Whether a backend is well, as checks and as sessions have it.
//!
//! What lives here: what is known of one backend, whoever has it configured. It has no clock: the time is told. What does
//! not: who asks and when (`health/watch.rs`), and how (`health/check.rs`).

mod check;
mod machine;
mod probe;
mod watch;

use crate::config;
pub use machine::Condition;
use machine::HealthState;
pub use probe::HealthCheck;
use std::{
    net::IpAddr,
    sync::{
        Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};
use tokio::{sync::Notify, time::Instant};
pub use watch::run_checker;

/// A backend's health: written by checks and by failed handshakes, read by every pick.
#[derive(Debug)]
pub struct BackendHealth {
    /// What a pick looks at, without a lock.
    up: AtomicBool,
    /// Something failed since the last success: only then does a success take the lock.
    has_failures: AtomicBool,
    book: Mutex<HealthRecord>,
    /// There is a change to tell, or an end to wait for; of the backend's other states too.
    changed: Notify,
}

#[derive(Debug, Default)]
struct HealthRecord {
    machine: HealthState,
    /// Changes that were not told yet.
    untold: Vec<HealthChange>,
}

/// A backend is in another condition than before.
#[derive(Debug, Clone, PartialEq, Eq)]
struct HealthChange {
    to: Condition,
    /// What failed last.
    why: Option<String>,
}

// === impl BackendHealth ===

impl BackendHealth {
    /// One of which nothing is known is taken for well.
    pub(super) fn new() -> Self {
        BackendHealth {
            up: AtomicBool::new(true),
            has_failures: AtomicBool::new(false),
            book: Mutex::default(),
            changed: Notify::new(),
        }
    }

    /// Whether it is neither down nor ejected.
    pub(super) fn is_up(&self) -> bool {
        self.up.load(Ordering::Relaxed)
    }

    /// In which condition it is, and what failed last if nothing went well since.
    pub fn condition(&self) -> (Condition, Option<String>) {
        let book = self.lock();
        (book.machine.condition(), book.machine.why().cloned())
    }

    /// How much longer it is ejected, if it is and checks have not taken it down.
    pub fn ejected_for(&self, now: Instant) -> Option<Duration> {
        let book = self.lock();
        let ejected = book.machine.condition() == Condition::Ejected;
        let until = book.machine.ejected_until().filter(|_| ejected)?;
        Some(until.saturating_duration_since(now))
    }

    /// A session or a request has reached it.
    pub(super) fn answered(&self) {
        if self.has_failures.load(Ordering::Relaxed) {
            self.change(HealthState::answered);
        }
    }

    /// A session or a request has not; or this client has `left` before it knew.
    pub(super) fn failed(
        &self,
        now: Instant,
        settings: &config::Passive,
        why: String,
        left: Option<IpAddr>,
    ) {
        self.change(|machine| machine.failed(now, settings, why, left));
    }

    /// What a check has found.
    fn checked(&self, found: Result<(), String>, settings: &config::Health) {
        self.change(|machine| machine.checked(found, settings.rise, settings.fall));
    }

    /// Nobody checks it any more.
    fn unchecked(&self) {
        self.change(HealthState::unchecked);
    }

    /// Ends what ends by itself.
    fn pass(&self, now: Instant) {
        self.change(|machine| machine.expire_ejection(now));
    }

    /// When [`Health::pass`] will change something.
    fn ends(&self) -> Option<Instant> {
        self.lock().machine.ejected_until()
    }

    /// What else the watch tells of has changed.
    pub(super) fn notify(&self) {
        self.changed.notify_one();
    }

    fn take_changes(&self) -> Vec<HealthChange> {
        std::mem::take(&mut self.lock().untold)
    }

    fn change(&self, act: impl FnOnce(&mut HealthState)) {
        let mut book = self.lock();
        let before = book.machine.condition();
        act(&mut book.machine);
        let to = book.machine.condition();
        self.up.store(to == Condition::Up, Ordering::Relaxed);
        let troubled = book.machine.why().is_some();
        self.has_failures.store(troubled, Ordering::Relaxed);
        if to == before {
            return;
        }
        let why = book.machine.why().cloned();
        // Where nobody takes them away, in a gateway that is not in force, they must not pile up.
        if book.untold.len() == MAX_PENDING_CHANGES {
            book.untold.remove(0);
        }
        book.untold.push(HealthChange { to, why });
        self.changed.notify_one();
    }

    // A panic elsewhere cannot leave it half written.
    fn lock(&self) -> MutexGuard<'_, HealthRecord> {
        self.book.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Far more than happen before the watch wakes.
const MAX_PENDING_CHANGES: usize = 16;
