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
use machine::Machine;
pub use probe::Probe;
use std::{
    net::IpAddr,
    sync::{
        Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};
use tokio::{sync::Notify, time::Instant};
pub use watch::watch;

/// A backend's health: written by checks and by failed handshakes, read by every pick.
#[derive(Debug)]
pub struct Health {
    /// What a pick looks at, without a lock.
    up: AtomicBool,
    /// Something failed since the last success: only then does a success take the lock.
    troubled: AtomicBool,
    book: Mutex<Book>,
    /// There is a change to tell, or an end to wait for; of the backend's other states too.
    stirred: Notify,
}

#[derive(Debug, Default)]
struct Book {
    machine: Machine,
    /// Changes that were not told yet.
    untold: Vec<Change>,
}

/// A backend is in another condition than before.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Change {
    to: Condition,
    /// What failed last.
    why: Option<String>,
}

// === impl Health ===

impl Health {
    /// One of which nothing is known is taken for well.
    pub(super) fn new() -> Self {
        Health {
            up: AtomicBool::new(true),
            troubled: AtomicBool::new(false),
            book: Mutex::default(),
            stirred: Notify::new(),
        }
    }

    /// Whether it is neither down nor ejected.
    pub(super) fn is_up(&self) -> bool {
        self.up.load(Ordering::Relaxed)
    }

    /// In which condition it is, and what failed last if nothing went well since.
    pub fn condition(&self) -> (Condition, Option<String>) {
        let book = self.book();
        (book.machine.condition(), book.machine.why().cloned())
    }

    /// How much longer it is ejected, if it is and checks have not taken it down.
    pub fn ejected_for(&self, now: Instant) -> Option<Duration> {
        let book = self.book();
        let ejected = book.machine.condition() == Condition::Ejected;
        let until = book.machine.ejected_until().filter(|_| ejected)?;
        Some(until.saturating_duration_since(now))
    }

    /// A session or a request has reached it.
    pub(super) fn answered(&self) {
        if self.troubled.load(Ordering::Relaxed) {
            self.change(Machine::answered);
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
        self.change(Machine::unchecked);
    }

    /// Ends what ends by itself.
    fn pass(&self, now: Instant) {
        self.change(|machine| machine.pass(now));
    }

    /// When [`Health::pass`] will change something.
    fn ends(&self) -> Option<Instant> {
        self.book().machine.ejected_until()
    }

    /// What else the watch tells of has changed.
    pub(super) fn stir(&self) {
        self.stirred.notify_one();
    }

    fn untold(&self) -> Vec<Change> {
        std::mem::take(&mut self.book().untold)
    }

    fn change(&self, act: impl FnOnce(&mut Machine)) {
        let mut book = self.book();
        let before = book.machine.condition();
        act(&mut book.machine);
        let to = book.machine.condition();
        self.up.store(to == Condition::Up, Ordering::Relaxed);
        let troubled = book.machine.why().is_some();
        self.troubled.store(troubled, Ordering::Relaxed);
        if to == before {
            return;
        }
        let why = book.machine.why().cloned();
        // Where nobody takes them away, in a gateway that is not in force, they must not pile up.
        if book.untold.len() == MOST_UNTOLD {
            book.untold.remove(0);
        }
        book.untold.push(Change { to, why });
        self.stirred.notify_one();
    }

    // A panic elsewhere cannot leave it half written.
    fn book(&self) -> MutexGuard<'_, Book> {
        self.book.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Far more than happen before the watch wakes.
const MOST_UNTOLD: usize = 16;
