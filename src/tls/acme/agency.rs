//! What all hosts share: the CA, the store, the account, and the turns in which orders are made.

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
    pub(super) shelf: Arc<IssuedCerts>,
    pub(super) metrics: Arc<Metrics>,
    pub(super) until_issued: UntilIssued,
    /// The first wait after a failure.
    pub(super) retry: Duration,
    lock: Mutex<LockState>,
    turns: Semaphore,
    account: tokio::sync::Mutex<Option<Arc<[u8]>>>,
}

/// Who may order and write.
enum LockState {
    /// Nobody knows yet.
    Unknown,
    /// We.
    Held(Lock),
    /// Another process: we serve what it writes.
    HeldElsewhere,
    /// There is no lock to be had, as on a read-only disk: then nobody else writes either.
    Impossible,
}

// === impl AcmeClient ===

impl AcmeClient {
    pub(super) fn new(
        ca: CaConfig,
        store: WriteBehindStore,
        shelf: Arc<IssuedCerts>,
        metrics: Arc<Metrics>,
        until_issued: UntilIssued,
        retry: Duration,
        lock: Option<Lock>,
    ) -> Self {
        AcmeClient {
            ca: Arc::new(ca),
            store,
            shelf,
            metrics,
            until_issued,
            retry,
            lock: Mutex::new(lock.map_or(LockState::Unknown, LockState::Held)),
            turns: Semaphore::new(MAX_CONCURRENT_ORDERS),
            account: tokio::sync::Mutex::default(),
        }
    }

    pub(super) fn now(&self) -> i64 {
        self.ca.clock.now()
    }

    /// Waits for a turn: few orders at once, however many hosts there are.
    pub(super) async fn order_slot(&self) -> SemaphorePermit<'_> {
        let turn = self.turns.acquire().await;
        turn.expect("it is never closed")
    }

    /// Whether this process is the one that orders. It tries to become it.
    pub(super) fn try_become_leader(&self) -> bool {
        let mut holding = self.lock.lock().unwrap_or_else(PoisonError::into_inner);
        if matches!(*holding, LockState::Held(_)) {
            return true;
        }
        let locked = self.store.lock();
        *holding = self.take(&holding, locked);
        !matches!(*holding, LockState::HeldElsewhere)
    }

    /// Another descriptor of the lock, if this process has it: it is held as long as one is open.
    pub(super) fn lock(&self) -> Option<io::Result<OwnedFd>> {
        match &*self.lock.lock().unwrap_or_else(PoisonError::into_inner) {
            LockState::Held(lock) => Some(lock.try_clone()),
            _ => None,
        }
    }

    fn take(&self, before: &LockState, locked: io::Result<Option<Lock>>) -> LockState {
        let place = self.store.place();
        match (locked, before) {
            (Ok(Some(lock)), before) => {
                if let LockState::HeldElsewhere = before {
                    info!("the other process has left {place}: certificates are ordered here now");
                }
                LockState::Held(lock)
            }
            (Ok(None), before) => {
                if !matches!(before, LockState::HeldElsewhere) {
                    warn!(
                        "another process keeps the certificates in {place}: here they are only served"
                    );
                }
                LockState::HeldElsewhere
            }
            // Somebody holds it, and nothing is known of a change.
            (Err(_), LockState::HeldElsewhere) => LockState::HeldElsewhere,
            (Err(error), before) => {
                if !matches!(before, LockState::Impossible) {
                    error!(%error, "cannot write into {place}: certificates are kept in memory only, and lost if lockgate ends");
                }
                LockState::Impossible
            }
        }
    }

    /// The account's key, made once however many ask.
    pub(super) async fn account(&self) -> Result<Arc<[u8]>, AcmeError> {
        let mut account = self.account.lock().await;
        if let Some(key) = &*account {
            return Ok(key.clone());
        }
        let key = account::key(&self.ca, &self.store).await?;
        *account = Some(key.clone());
        Ok(key)
    }

    /// What an operator should know about the whole, if anything.
    pub(super) fn last_error(&self) -> Option<String> {
        let trouble = self
            .store
            .last_error()
            .into_iter()
            .chain(self.ca.clock.warning());
        trouble.reduce(|one, other| format!("{one}; {other}"))
    }
}

/// Orders under way: CAs count them, and the machine has better things to do.
const MAX_CONCURRENT_ORDERS: usize = 4;
