//! What all hosts share: the CA, the store, the account, and the turns in which orders are made.

use std::io;
use std::os::fd::OwnedFd;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::sync::{Semaphore, SemaphorePermit};
use tracing::{error, info, warn};

use super::account;
use super::failure::Failure;
use super::wish::Ca;
use crate::config::UntilIssued;
use crate::observe::Metrics;
use crate::tls::IssuedCerts;
use crate::tls::store::{WriteBehindStore, Lock};

pub(super) struct Agency {
    pub(super) ca: Arc<Ca>,
    pub(super) store: WriteBehindStore,
    pub(super) shelf: Arc<IssuedCerts>,
    pub(super) metrics: Arc<Metrics>,
    pub(super) until_issued: UntilIssued,
    /// The first wait after a failure.
    pub(super) retry: Duration,
    lock: Mutex<Holding>,
    turns: Semaphore,
    account: tokio::sync::Mutex<Option<Arc<[u8]>>>,
}

/// Who may order and write.
enum Holding {
    /// Nobody knows yet.
    Unknown,
    /// We.
    Ours(Lock),
    /// Another process: we serve what it writes.
    Theirs,
    /// There is no lock to be had, as on a read-only disk: then nobody else writes either.
    Impossible,
}

// === impl Agency ===

impl Agency {
    pub(super) fn new(
        ca: Ca,
        store: WriteBehindStore,
        shelf: Arc<IssuedCerts>,
        metrics: Arc<Metrics>,
        until_issued: UntilIssued,
        retry: Duration,
        lock: Option<Lock>,
    ) -> Self {
        Agency {
            ca: Arc::new(ca),
            store,
            shelf,
            metrics,
            until_issued,
            retry,
            lock: Mutex::new(lock.map_or(Holding::Unknown, Holding::Ours)),
            turns: Semaphore::new(AT_ONCE),
            account: tokio::sync::Mutex::default(),
        }
    }

    pub(super) fn now(&self) -> i64 {
        self.ca.clock.now()
    }

    /// Waits for a turn: few orders at once, however many hosts there are.
    pub(super) async fn turn(&self) -> SemaphorePermit<'_> {
        let turn = self.turns.acquire().await;
        turn.expect("it is never closed")
    }

    /// Whether this process is the one that orders. It tries to become it.
    pub(super) fn orders(&self) -> bool {
        let mut holding = self.lock.lock().unwrap_or_else(PoisonError::into_inner);
        if matches!(*holding, Holding::Ours(_)) {
            return true;
        }
        let locked = self.store.lock();
        *holding = self.take(&holding, locked);
        !matches!(*holding, Holding::Theirs)
    }

    /// Another descriptor of the lock, if this process has it: it is held as long as one is open.
    pub(super) fn lock(&self) -> Option<io::Result<OwnedFd>> {
        match &*self.lock.lock().unwrap_or_else(PoisonError::into_inner) {
            Holding::Ours(lock) => Some(lock.try_clone()),
            _ => None,
        }
    }

    fn take(&self, before: &Holding, locked: io::Result<Option<Lock>>) -> Holding {
        let place = self.store.place();
        match (locked, before) {
            (Ok(Some(lock)), before) => {
                if let Holding::Theirs = before {
                    info!("the other process has left {place}: certificates are ordered here now");
                }
                Holding::Ours(lock)
            }
            (Ok(None), before) => {
                if !matches!(before, Holding::Theirs) {
                    warn!(
                        "another process keeps the certificates in {place}: here they are only served"
                    );
                }
                Holding::Theirs
            }
            // Somebody holds it, and nothing is known of a change.
            (Err(_), Holding::Theirs) => Holding::Theirs,
            (Err(error), before) => {
                if !matches!(before, Holding::Impossible) {
                    error!(%error, "cannot write into {place}: certificates are kept in memory only, and lost if lockgate ends");
                }
                Holding::Impossible
            }
        }
    }

    /// The account's key, made once however many ask.
    pub(super) async fn account(&self) -> Result<Arc<[u8]>, Failure> {
        let mut account = self.account.lock().await;
        if let Some(key) = &*account {
            return Ok(key.clone());
        }
        let key = account::key(&self.ca, &self.store).await?;
        *account = Some(key.clone());
        Ok(key)
    }

    /// What an operator should know about the whole, if anything.
    pub(super) fn trouble(&self) -> Option<String> {
        let trouble = self
            .store
            .last_error()
            .into_iter()
            .chain(self.ca.clock.trouble());
        trouble.reduce(|one, other| format!("{one}; {other}"))
    }
}

/// Orders under way: CAs count them, and the machine has better things to do.
const AT_ONCE: usize = 4;
