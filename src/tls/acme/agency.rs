//! State shared by all hosts: the CA, the store and its lock, the account, and the limit on concurrent orders.

use std::io;
use std::os::fd::OwnedFd;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::sync::{Semaphore, SemaphorePermit};
use tracing::{error, info, warn};

use super::account;
use super::failure::AcmeError;
use super::wish::CaConfig;
use crate::config::UntilIssued;
use crate::observe::Metrics;
use crate::tls::IssuedCerts;
use crate::tls::store::{Lock, WriteBehindStore};

pub(super) struct AcmeClient {
    pub(super) ca: Arc<CaConfig>,
    pub(super) store: WriteBehindStore,
    pub(super) issued: Arc<IssuedCerts>,
    pub(super) metrics: Arc<Metrics>,
    pub(super) until_issued: UntilIssued,
    /// The delay after a first failure.
    pub(super) retry: Duration,
    lock: Mutex<LockState>,
    order_slots: Semaphore,
    account: tokio::sync::Mutex<Option<Arc<[u8]>>>,
}

/// The state of the store lock, which decides which process orders and writes.
enum LockState {
    /// The lock has not been tried yet.
    Unknown,
    /// This process holds the lock.
    Held(Lock),
    /// Another process holds the lock; this one serves what the other writes.
    HeldElsewhere,
    /// The lock cannot be created, as on a read-only disk. This process orders certificates nevertheless.
    Impossible,
}

// === impl AcmeClient ===

impl AcmeClient {
    pub(super) fn new(
        ca: CaConfig,
        store: WriteBehindStore,
        issued: Arc<IssuedCerts>,
        metrics: Arc<Metrics>,
        until_issued: UntilIssued,
        retry: Duration,
        lock: Option<Lock>,
    ) -> Self {
        AcmeClient {
            ca: Arc::new(ca),
            store,
            issued,
            metrics,
            until_issued,
            retry,
            lock: Mutex::new(lock.map_or(LockState::Unknown, LockState::Held)),
            order_slots: Semaphore::new(MAX_CONCURRENT_ORDERS),
            account: tokio::sync::Mutex::default(),
        }
    }

    pub(super) fn now(&self) -> i64 {
        self.ca.clock.now()
    }

    /// Waits for one of [`MAX_CONCURRENT_ORDERS`] permits.
    pub(super) async fn order_slot(&self) -> SemaphorePermit<'_> {
        let slot = self.order_slots.acquire().await;
        slot.expect("the semaphore is never closed")
    }

    /// Tries to take the lock. Returns true if this process orders certificates.
    pub(super) fn try_become_leader(&self) -> bool {
        let mut state = self.lock.lock().unwrap_or_else(PoisonError::into_inner);
        if matches!(*state, LockState::Held(_)) {
            return true;
        }
        let result = self.store.lock();
        *state = self.next_state(&state, result);
        !matches!(*state, LockState::HeldElsewhere)
    }

    /// Returns another descriptor of the lock, if this process holds it. The lock is held as long as a descriptor is
    /// open.
    pub(super) fn lock(&self) -> Option<io::Result<OwnedFd>> {
        match &*self.lock.lock().unwrap_or_else(PoisonError::into_inner) {
            LockState::Held(lock) => Some(lock.try_clone()),
            _ => None,
        }
    }

    fn next_state(&self, before: &LockState, result: io::Result<Option<Lock>>) -> LockState {
        let location = self.store.location();
        match (result, before) {
            (Ok(Some(lock)), before) => {
                if let LockState::HeldElsewhere = before {
                    info!(%location, "the other process has released the store; this process now orders certificates");
                }
                LockState::Held(lock)
            }
            (Ok(None), before) => {
                if !matches!(before, LockState::HeldElsewhere) {
                    warn!(%location, "another process manages the certificates; this process only serves them");
                }
                LockState::HeldElsewhere
            }
            // The other process is assumed to still hold the lock.
            (Err(_), LockState::HeldElsewhere) => LockState::HeldElsewhere,
            (Err(error), before) => {
                if !matches!(before, LockState::Impossible) {
                    error!(%location, %error, "cannot write to the certificate store; certificates are kept in memory only and lost when lockgate ends");
                }
                LockState::Impossible
            }
        }
    }

    /// Returns the account key, which is created once even with concurrent callers.
    pub(super) async fn account(&self) -> Result<Arc<[u8]>, AcmeError> {
        let mut account = self.account.lock().await;
        if let Some(key) = &*account {
            return Ok(key.clone());
        }
        let key = account::key(&self.ca, &self.store).await?;
        *account = Some(key.clone());
        Ok(key)
    }

    /// Returns the current errors of the store and the clock, if there are any.
    pub(super) fn last_error(&self) -> Option<String> {
        let errors = self
            .store
            .last_error()
            .into_iter()
            .chain(self.ca.clock.warning());
        errors.reduce(|one, other| format!("{one}; {other}"))
    }
}

/// The maximum number of concurrent orders: CAs limit pending orders, and each order costs CPU time.
const MAX_CONCURRENT_ORDERS: usize = 4;
