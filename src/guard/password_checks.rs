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

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::Ipv4Addr;
    use tokio::time::advance;

    #[tokio::test(start_paused = true)]
    async fn address_has_ten_failed_attempts_and_one_more_every_six_seconds() {
        let checks = PasswordChecks::default();
        let client: IpAddr = [192, 0, 2, 1].into();
        let fail = async || match checks.begin(client) {
            Ok(permit) => checks.run(permit, || false).await == Some(false),
            Err(limit) => {
                assert_eq!(limit, CheckLimit::Attempts);
                false
            }
        };
        let mut failed = 0;
        while fail().await {
            failed += 1;
        }
        assert_eq!(failed, 10);
        advance(ATTEMPT_INTERVAL).await;
        assert!(fail().await && !fail().await);
        let other: IpAddr = [192, 0, 2, 2].into();
        for _ in 0..100 {
            let permit = checks.begin(other).unwrap();
            assert_eq!(checks.run(permit, || true).await, Some(true));
        }
        assert_eq!(checks.hashes(), 111);
    }

    #[tokio::test(start_paused = true)]
    async fn addresses_of_one_ipv6_network_share_their_attempts() {
        let checks = PasswordChecks::default();
        let of = |host: u16| format!("2001:db8:0:1::{host:x}").parse().unwrap();
        let begun: Vec<_> = (0..100).map(|host| checks.begin(of(host))).collect();
        assert_eq!(begun.iter().filter(|it| it.is_ok()).count(), 10);
        assert!(checks.begin("2001:db8:0:2::1".parse().unwrap()).is_ok());
    }

    #[tokio::test(start_paused = true)]
    async fn queue_has_66_checks_and_the_table_of_addresses_is_bounded() {
        let checks = PasswordChecks::default();
        let of = |number: u32| IpAddr::from(Ipv4Addr::from_bits(number));
        let queued: Vec<_> = (0..66).map(|number| checks.begin(of(number))).collect();
        assert!(queued.iter().all(Result::is_ok));
        assert_eq!(checks.begin(of(66)).unwrap_err(), CheckLimit::Queue);
        drop(queued);
        for number in 0..100_000 {
            drop(checks.begin(of(number)).unwrap());
        }
        let attempts = checks.lock();
        assert!(attempts.current.len() + attempts.previous.len() <= 2 * MAX_GENERATION_LEN);
    }

    #[tokio::test]
    async fn at_most_two_hashes_run_at_once_and_a_panic_releases_its_slot() {
        let checks = Arc::new(PasswordChecks::default());
        let running = Arc::new(AtomicU64::new(0));
        let mut most = Vec::new();
        for number in 0..9_u32 {
            let (checks, running) = (checks.clone(), running.clone());
            let permit = checks.begin(Ipv4Addr::from_bits(number).into()).unwrap();
            most.push(async move {
                let most = Arc::new(AtomicU64::new(0));
                let seen = most.clone();
                let verify = move || {
                    seen.fetch_max(running.fetch_add(1, Relaxed) + 1, Relaxed);
                    std::thread::sleep(Duration::from_millis(20));
                    running.fetch_sub(1, Relaxed);
                    true
                };
                checks.run(permit, verify).await;
                most.load(Relaxed)
            });
        }
        let most = futures_util::future::join_all(most).await;
        assert_eq!(most.iter().max(), Some(&2));
        let permit = checks.begin([192, 0, 2, 1].into()).unwrap();
        assert_eq!(checks.run(permit, || panic!("on purpose")).await, None);
        assert_eq!(checks.running.available_permits(), MAX_RUNNING);
        assert_eq!(checks.queue.available_permits(), MAX_RUNNING + MAX_QUEUED);
    }
}
