//! How a client's connection ends: what decides whether its close must linger, and what hyper leaves to Lockgate.

use hyper::upgrade::OnUpgrade;
use std::sync::{
    Mutex, MutexGuard, PoisonError,
    atomic::{AtomicBool, AtomicU16, Ordering::Relaxed},
};

/// The state of the end of a connection.
#[derive(Debug, Default)]
pub(crate) struct ConnEnd {
    /// Set while a response of the service is not written completely. What HTTP/1.1 writes otherwise is hyper's own.
    owes_response: AtomicBool,
    /// The status with which hyper has refused a request; 0: none.
    refused: AtomicU16,
    /// Set when a request body was left unread: the client may still be sending it.
    unread: AtomicBool,
    /// The stream after a refused upgrade: hyper does not shut it down itself.
    upgrade: Mutex<Option<OnUpgrade>>,
    /// Set on shutdown: a lingering close ends early.
    stopping: AtomicBool,
}

// === impl ConnEnd ===

impl ConnEnd {
    /// Records a request. In HTTP/1.1 hyper has read the body of the previous one, if there was one.
    pub(crate) fn begin_request(&self, is_multiplexed: bool) {
        self.owes_response.store(true, Relaxed);
        if !is_multiplexed {
            self.unread.store(false, Relaxed);
        }
    }

    /// Records that all responses are written.
    pub(crate) fn responses_written(&self) {
        self.owes_response.store(false, Relaxed);
    }

    /// Returns whether a response of the service is not written completely.
    pub(crate) fn owes_response(&self) -> bool {
        self.owes_response.load(Relaxed)
    }

    /// Records that a request body was left unread.
    pub(crate) fn record_unread(&self) {
        self.unread.store(true, Relaxed);
    }

    /// Returns whether a request body was left unread.
    pub(crate) fn is_unread(&self) -> bool {
        self.unread.load(Relaxed)
    }

    /// Records that hyper has refused a request.
    pub(crate) fn record_refusal(&self, status: u16) {
        self.refused.store(status, Relaxed);
    }

    /// Returns the status with which hyper has refused a request, once.
    pub(crate) fn take_refusal(&self) -> Option<u16> {
        Some(self.refused.swap(0, Relaxed)).filter(|status| *status != 0)
    }

    /// Keeps the upgrade of a request that was not upgraded.
    pub(crate) fn keep_upgrade(&self, upgrade: Option<OnUpgrade>) {
        *self.upgrade() = upgrade;
    }

    /// Returns the upgrade of the last request, if that was not upgraded.
    pub(crate) fn take_upgrade(&self) -> Option<OnUpgrade> {
        self.upgrade().take()
    }

    fn upgrade(&self) -> MutexGuard<'_, Option<OnUpgrade>> {
        // The lock is held for plain assignments only, so a poisoned state is consistent.
        let upgrade = self.upgrade.lock();
        upgrade.unwrap_or_else(PoisonError::into_inner)
    }

    /// Shortens a lingering close, because the process stops. The connection has to be polled again.
    pub(crate) fn hasten(&self) {
        self.stopping.store(true, Relaxed);
    }

    /// Returns whether [`ConnEnd::hasten`] was called since the last call.
    pub(crate) fn take_hastened(&self) -> bool {
        self.stopping.swap(false, Relaxed)
    }
}
