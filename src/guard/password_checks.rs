//! What bounds the verification of passwords: a hash costs tens of milliseconds on purpose.

use crate::net::subnet::{PackedSubnet, SubnetKey};
use std::{
    collections::HashMap,
    net::IpAddr,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
    time::Duration,
};
use tokio::{
    sync::{OwnedSemaphorePermit, Semaphore},
    task::spawn_blocking,
    time::Instant,
};

/// The limits, shared by all guards.
#[derive(Debug)]
pub(crate) struct PasswordChecks {
    /// The hashes that are computed or queued.
    queue: Arc<Semaphore>,
    running: Semaphore,
    attempts: Mutex<AttemptTable>,
    /// The number of hashes so far.
    hashes: AtomicU64,
}

/// The time at which each address has all attempts again, in two generations, so that memory is bounded without a
/// search.
#[derive(Debug)]
struct AttemptTable {
    /// At most [`MAX_GENERATION_LEN`].
    current: HashMap<PackedSubnet, Instant>,
    previous: HashMap<PackedSubnet, Instant>,
    began: Instant,
}

/// A check that may run.
#[derive(Debug)]
pub(crate) struct CheckPermit {
    _queued: OwnedSemaphorePermit,
    client: PackedSubnet,
}

/// Why a password is not checked now.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum CheckLimit {
    /// The address has had too many failed attempts.
    Attempts,
    /// Too many checks are queued.
    Queue,
}

// === impl PasswordChecks ===

impl Default for PasswordChecks {
    fn default() -> Self {
        PasswordChecks {
            queue: Arc::new(Semaphore::new(MAX_RUNNING + MAX_QUEUED)),
            running: Semaphore::new(MAX_RUNNING),
            attempts: Mutex::new(AttemptTable {
                current: HashMap::new(),
                previous: HashMap::new(),
                began: Instant::now(),
            }),
            hashes: AtomicU64::new(0),
        }
    }
}

impl PasswordChecks {
    /// Counts an attempt of `client`, and takes a slot in the queue.
    pub(crate) fn begin(&self, client: IpAddr) -> Result<CheckPermit, CheckLimit> {
        let client = SubnetKey::of(client).pack();
        let mut attempts = self.lock();
        let now = Instant::now();
        let next = attempts.full_time(client, now) + ATTEMPT_INTERVAL;
        if next - now > ATTEMPT_INTERVAL * MAX_ATTEMPTS {
            return Err(CheckLimit::Attempts);
        }
        let queued = self.queue.clone().try_acquire_owned();
        let queued = queued.map_err(|_| CheckLimit::Queue)?;
        attempts.set_full_time(client, next, now);
        Ok(CheckPermit {
            _queued: queued,
            client,
        })
    }

    /// Computes a hash on a thread for blocking work. `None`: the computation panicked.
    pub(crate) async fn run(
        &self,
        permit: CheckPermit,
        verify: impl FnOnce() -> bool + Send + 'static,
    ) -> Option<bool> {
        // Never closed.
        let running = self.running.acquire().await;
        self.hashes.fetch_add(1, Relaxed);
        let is_right = spawn_blocking(verify).await.ok();
        drop(running);
        if is_right == Some(true) {
            let mut attempts = self.lock();
            let now = Instant::now();
            let full = attempts.full_time(permit.client, now);
            let full = full.checked_sub(ATTEMPT_INTERVAL).unwrap_or(now).max(now);
            attempts.set_full_time(permit.client, full, now);
        }
        is_right
    }

    fn lock(&self) -> MutexGuard<'_, AttemptTable> {
        // An entry is never half written, so a poisoned state is consistent.
        self.attempts.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Returns the number of hashes so far.
    #[cfg(test)]
    pub(crate) fn hashes(&self) -> u64 {
        self.hashes.load(Relaxed)
    }
}

// === impl AttemptTable ===

impl AttemptTable {
    fn full_time(&self, client: PackedSubnet, now: Instant) -> Instant {
        let full = self.current.get(&client).or(self.previous.get(&client));
        full.map_or(now, |full| (*full).max(now))
    }

    fn set_full_time(&mut self, client: PackedSubnet, full: Instant, now: Instant) {
        let is_over = now - self.began > ATTEMPT_INTERVAL * MAX_ATTEMPTS;
        if is_over || self.current.len() >= MAX_GENERATION_LEN {
            self.previous = std::mem::take(&mut self.current);
            self.began = now;
        }
        self.current.insert(client, full);
    }
}

/// Hashes at one time, so that they leave a core for everything else.
const MAX_RUNNING: usize = 2;

const MAX_QUEUED: usize = 64;

/// Failed attempts of an address at once; one more for each [`ATTEMPT_INTERVAL`].
const MAX_ATTEMPTS: u32 = 10;

pub(crate) const ATTEMPT_INTERVAL: Duration = Duration::from_secs(6);

/// Two generations of about 50 bytes for each address are 3 MiB.
const MAX_GENERATION_LEN: usize = 32_768;
