//! The budget of file descriptors: every descriptor whose number a client can influence has a permit of it.
//!
//! The budget is the descriptor limit of the process minus a reserve for listeners, the admin API, DNS, the store, logs
//! and the runtime. A connection in the pool of idle connections to backends has a [`PooledDescriptor`]: when the
//! budget is used up, the permit of an idle connection is reclaimed, and that connection closes.

use futures_util::task::AtomicWaker;
use std::{
    collections::HashMap,
    io, mem,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError, Weak,
        atomic::{AtomicU64, Ordering},
    },
    task::Context,
};

/// Issues a limited number of permits, one for each descriptor.
#[derive(Debug)]
pub(crate) struct DescriptorBudget {
    max: u64,
    used: AtomicU64,
    /// The parts of `used`, by [`DescriptorUse`].
    used_for: [AtomicU64; DescriptorUse::ALL.len()],
    /// The pooled connections that serve no request; they are a part of `used`.
    idle: AtomicU64,
    pooled: Mutex<HashMap<u64, Weak<PooledConnection>>>,
    next_id: AtomicU64,
}

/// What a descriptor is used for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum DescriptorUse {
    /// A connection of a client.
    Client,
    /// The backend connection of a session or of a handshake.
    Session,
    /// A backend connection for plain requests, including the idle ones in the pool.
    Request,
    /// A health check.
    Health,
}

/// A counted descriptor, released on drop. It is dropped after the descriptor.
#[derive(Debug)]
pub(crate) struct DescriptorPermit {
    budget: Arc<DescriptorBudget>,
    used_for: DescriptorUse,
}

/// The permit of a connection that a pool keeps between two requests. The connection owns it.
#[derive(Debug)]
pub(crate) struct PooledDescriptor(Arc<PooledConnection>);

/// A pooled connection, as the request that it serves refers to it.
#[derive(Debug, Clone)]
pub(crate) struct PooledRef(Arc<PooledConnection>);

/// Marks a pooled connection as idle when the request that it serves has ended.
#[derive(Debug)]
pub(crate) struct BusyGuard(PooledRef);

#[derive(Debug)]
struct PooledConnection {
    id: u64,
    budget: Arc<DescriptorBudget>,
    state: Mutex<PooledState>,
    /// Wakes the connection when its permit has been reclaimed.
    waker: AtomicWaker,
}

#[derive(Debug)]
enum PooledState {
    Busy(DescriptorPermit),
    Idle(DescriptorPermit),
    /// The permit belongs to another descriptor, and the connection must close.
    Reclaimed,
    Closed,
}

// === impl DescriptorBudget ===

impl DescriptorBudget {
    /// Creates a budget of `max` permits.
    pub(crate) fn new(max: u64) -> Arc<Self> {
        Arc::new(DescriptorBudget {
            max,
            used: AtomicU64::new(0),
            used_for: Default::default(),
            idle: AtomicU64::new(0),
            pooled: Mutex::default(),
            next_id: AtomicU64::new(0),
        })
    }

    /// Returns a permit; `None` if the budget is used up and no pooled connection is idle.
    pub(crate) fn acquire(self: &Arc<Self>, used_for: DescriptorUse) -> Option<DescriptorPermit> {
        self.acquire_below(self.max, used_for)
            .or_else(|| self.reclaim(used_for))
    }

    /// Returns a permit for a health check, which may use a part of the reserve: a busy proxy must still notice that a
    /// backend is down.
    pub(crate) fn acquire_for_health(self: &Arc<Self>) -> Option<DescriptorPermit> {
        self.acquire(DescriptorUse::Health).or_else(|| {
            self.acquire_below(
                self.max.saturating_add(HEALTH_RESERVE),
                DescriptorUse::Health,
            )
        })
    }

    /// Returns the size of the budget.
    pub(crate) fn max(&self) -> u64 {
        self.max
    }

    /// Returns the number of permits in use.
    pub(crate) fn used(&self) -> u64 {
        self.used.load(Ordering::Relaxed)
    }

    /// Returns the number of permits in use for this purpose.
    pub(crate) fn used_for(&self, used_for: DescriptorUse) -> u64 {
        self.used_for[used_for as usize].load(Ordering::Relaxed)
    }

    /// Returns the number of pooled connections that serve no request.
    pub(crate) fn idle(&self) -> u64 {
        self.idle.load(Ordering::Relaxed)
    }

    /// Returns whether three quarters of the budget are used, or will be: `claimed` counts the connections, sessions
    /// and requests of all clients, also the requests that still wait for a backend. Idle pooled connections do not
    /// count, because their permits are available.
    pub(crate) fn is_scarce(&self, claimed: u64) -> bool {
        self.used().saturating_sub(self.idle()).max(claimed) >= self.max / 4 * 3
    }

    fn acquire_below(
        self: &Arc<Self>,
        max: u64,
        used_for: DescriptorUse,
    ) -> Option<DescriptorPermit> {
        let one_more = |used| (used < max).then_some(used + 1);
        self.used
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, one_more)
            .ok()?;
        Some(self.permit(used_for))
    }

    /// Returns the permit for a unit of `used` that is already counted.
    fn permit(self: &Arc<Self>, used_for: DescriptorUse) -> DescriptorPermit {
        self.used_for[used_for as usize].fetch_add(1, Ordering::Relaxed);
        DescriptorPermit {
            budget: self.clone(),
            used_for,
        }
    }

    /// Takes the permit of an idle pooled connection, which closes.
    fn reclaim(&self, used_for: DescriptorUse) -> Option<DescriptorPermit> {
        if self.idle() == 0 {
            return None;
        }
        let pooled: Vec<_> = self.pooled().values().filter_map(Weak::upgrade).collect();
        let permit = pooled.iter().find_map(|connection| connection.reclaim())?;
        Some(permit.reassigned(used_for))
    }

    // A panic elsewhere cannot leave the table half changed, so a poisoned lock is used.
    fn pooled(&self) -> MutexGuard<'_, HashMap<u64, Weak<PooledConnection>>> {
        self.pooled.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

// === impl DescriptorUse ===

impl DescriptorUse {
    const ALL: [DescriptorUse; 4] = [
        DescriptorUse::Client,
        DescriptorUse::Session,
        DescriptorUse::Request,
        DescriptorUse::Health,
    ];

    /// The uses for connections to backends.
    pub(crate) const BACKEND: [DescriptorUse; 3] = [
        DescriptorUse::Session,
        DescriptorUse::Request,
        DescriptorUse::Health,
    ];
}

// === impl DescriptorPermit ===

impl DescriptorPermit {
    /// Returns the same permit for another descriptor.
    fn reassigned(mut self, used_for: DescriptorUse) -> Self {
        let counts = &self.budget.used_for;
        counts[self.used_for as usize].fetch_sub(1, Ordering::Relaxed);
        counts[used_for as usize].fetch_add(1, Ordering::Relaxed);
        self.used_for = used_for;
        self
    }
}

impl Drop for DescriptorPermit {
    fn drop(&mut self) {
        self.budget.used_for[self.used_for as usize].fetch_sub(1, Ordering::Relaxed);
        self.budget.used.fetch_sub(1, Ordering::Relaxed);
    }
}

// === impl PooledDescriptor ===

impl PooledDescriptor {
    /// Registers a connection of a pool that is about to serve its first request.
    pub(crate) fn new(permit: DescriptorPermit) -> Self {
        let budget = permit.budget.clone();
        let connection = Arc::new(PooledConnection {
            id: budget.next_id.fetch_add(1, Ordering::Relaxed),
            budget,
            state: Mutex::new(PooledState::Busy(permit)),
            waker: AtomicWaker::new(),
        });
        let entry = Arc::downgrade(&connection);
        connection.budget.pooled().insert(connection.id, entry);
        PooledDescriptor(connection)
    }

    /// Returns the reference by which a request marks the end of its use.
    pub(crate) fn pooled_ref(&self) -> PooledRef {
        PooledRef(self.0.clone())
    }

    /// Records that a request uses the connection again. If the permit was reclaimed a moment ago, the connection is
    /// counted above the budget until it ends: the request has been written already.
    pub(crate) fn begin_request(&self) {
        let mut state = self.0.state();
        *state = match mem::replace(&mut *state, PooledState::Closed) {
            PooledState::Idle(permit) => {
                self.0.budget.idle.fetch_sub(1, Ordering::Relaxed);
                PooledState::Busy(permit)
            }
            PooledState::Reclaimed => {
                let budget = &self.0.budget;
                budget.used.fetch_add(1, Ordering::Relaxed);
                PooledState::Busy(budget.permit(DescriptorUse::Request))
            }
            other => other,
        };
    }

    /// Returns whether the connection must close; otherwise its task is woken when it must.
    pub(crate) fn is_reclaimed(&self, cx: &Context<'_>) -> bool {
        self.0.waker.register(cx.waker());
        matches!(*self.0.state(), PooledState::Reclaimed)
    }
}

impl Drop for PooledDescriptor {
    fn drop(&mut self) {
        self.0.budget.pooled().remove(&self.0.id);
        let state = mem::replace(&mut *self.0.state(), PooledState::Closed);
        if matches!(state, PooledState::Idle(_)) {
            self.0.budget.idle.fetch_sub(1, Ordering::Relaxed);
        }
    }
}

// === impl PooledRef ===

impl PooledRef {
    /// Returns the guard that the response body of the request holds.
    pub(crate) fn busy_guard(self) -> BusyGuard {
        BusyGuard(self)
    }
}

// === impl BusyGuard ===

impl Drop for BusyGuard {
    fn drop(&mut self) {
        let connection = &self.0.0;
        let mut state = connection.state();
        *state = match mem::replace(&mut *state, PooledState::Closed) {
            PooledState::Busy(permit) => {
                connection.budget.idle.fetch_add(1, Ordering::Relaxed);
                PooledState::Idle(permit)
            }
            other => other,
        };
    }
}

// === impl PooledConnection ===

impl PooledConnection {
    fn reclaim(&self) -> Option<DescriptorPermit> {
        let mut state = self.state();
        let (next, permit) = match mem::replace(&mut *state, PooledState::Closed) {
            PooledState::Idle(permit) => (PooledState::Reclaimed, Some(permit)),
            other => (other, None),
        };
        *state = next;
        drop(state);
        if permit.is_some() {
            self.budget.idle.fetch_sub(1, Ordering::Relaxed);
            self.waker.wake();
        }
        permit
    }

    fn state(&self) -> MutexGuard<'_, PooledState> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Returns the number of descriptors in the reserve, out of `limit`.
pub(crate) fn reserved_descriptors(limit: usize) -> usize {
    (limit / RESERVE_DIVISOR).clamp(MIN_RESERVE, MAX_RESERVE)
}

/// Returns the number of connections for which the reserve has descriptors at each of the two admin listeners.
pub(crate) fn admin_connections(limit: usize) -> usize {
    reserved_descriptors(limit) / ADMIN_DIVISOR
}

/// EMFILE, ENFILE, ENOBUFS, ENOMEM: the machine or the process is out of resources.
pub(crate) fn is_exhaustion(error: &io::Error) -> bool {
    use rustix::io::Errno;
    let exhaustion = [Errno::MFILE, Errno::NFILE, Errno::NOBUFS, Errno::NOMEM];
    exhaustion
        .into_iter()
        .any(|errno| error.raw_os_error() == Some(errno.raw_os_error()))
}

/// One sixteenth of the limit is reserved, between [`MIN_RESERVE`] and [`MAX_RESERVE`].
const RESERVE_DIVISOR: usize = 16;

/// Some 16 descriptors of the runtime, logs, the store and one listener of each kind, 24 connections of the two admin
/// listeners, and 8 for health checks and DNS.
const MIN_RESERVE: usize = 48;

/// The same with 128 connections at each admin listener.
const MAX_RESERVE: usize = 512;

/// Each of the two admin listeners has a quarter of the reserve.
const ADMIN_DIVISOR: usize = 4;

/// The health checks that may run at a time while the budget is used up.
const HEALTH_RESERVE: u64 = 4;

#[cfg(test)]
mod tests {
    use super::*;
    use futures_util::task::noop_waker;

    #[test]
    fn permits_are_bounded_and_released_on_drop() {
        let budget = DescriptorBudget::new(2);
        let client = budget.acquire(DescriptorUse::Client).unwrap();
        let session = budget.acquire(DescriptorUse::Session).unwrap();
        assert!(budget.acquire(DescriptorUse::Request).is_none());
        assert_eq!((budget.used(), budget.max()), (2, 2));
        assert_eq!(budget.used_for(DescriptorUse::Session), 1);
        drop(session);
        assert_eq!(budget.used_for(DescriptorUse::Session), 0);
        drop(client);
        assert_eq!(budget.used(), 0);
    }

    #[test]
    fn health_checks_use_the_reserve_when_the_budget_is_used_up() {
        let budget = DescriptorBudget::new(1);
        let _client = budget.acquire(DescriptorUse::Client).unwrap();
        let checks: Vec<_> = (0..HEALTH_RESERVE)
            .map(|_| budget.acquire_for_health().unwrap())
            .collect();
        assert!(budget.acquire_for_health().is_none());
        drop(checks);
        assert_eq!(budget.used(), 1);
    }

    #[test]
    fn idle_pooled_connection_gives_up_its_permit() {
        let (budget, waker) = (DescriptorBudget::new(1), noop_waker());
        let cx = Context::from_waker(&waker);
        let pooled = PooledDescriptor::new(budget.acquire(DescriptorUse::Request).unwrap());
        assert!(budget.acquire(DescriptorUse::Client).is_none(), "in use");
        drop(pooled.pooled_ref().busy_guard());
        assert_eq!((budget.used(), budget.idle()), (1, 1));
        let client = budget.acquire(DescriptorUse::Client).unwrap();
        assert!(pooled.is_reclaimed(&cx));
        assert_eq!((budget.used(), budget.idle()), (1, 0));
        assert_eq!(budget.used_for(DescriptorUse::Request), 0);
        drop((pooled, client));
        assert_eq!(budget.used(), 0);
        assert!(budget.pooled().is_empty());
    }

    #[test]
    fn request_that_begins_during_a_reclaim_is_counted() {
        let budget = DescriptorBudget::new(1);
        let pooled = PooledDescriptor::new(budget.acquire(DescriptorUse::Request).unwrap());
        drop(pooled.pooled_ref().busy_guard());
        let client = budget.acquire(DescriptorUse::Client).unwrap();
        pooled.begin_request();
        assert_eq!(budget.used(), 2);
        drop(pooled.pooled_ref().busy_guard());
        drop((client, pooled));
        assert_eq!((budget.used(), budget.idle()), (0, 0));
    }

    #[test]
    fn three_quarters_make_permits_scarce_and_idle_ones_do_not_count() {
        let budget = DescriptorBudget::new(8);
        let mut held: Vec<_> = (0..5)
            .map(|_| budget.acquire(DescriptorUse::Client).unwrap())
            .collect();
        let pooled = PooledDescriptor::new(budget.acquire(DescriptorUse::Request).unwrap());
        assert!(budget.is_scarce(0));
        drop(pooled.pooled_ref().busy_guard());
        assert!(!budget.is_scarce(0) && budget.is_scarce(6));
        held.push(budget.acquire(DescriptorUse::Client).unwrap());
        assert!(budget.is_scarce(0));
    }

    #[test]
    fn reserve_grows_with_the_limit() {
        for (limit, reserve, admin) in [
            (64, 48, 12),
            (256, 48, 12),
            (1024, 64, 16),
            (1_048_576, 512, 128),
        ] {
            assert_eq!(reserved_descriptors(limit), reserve);
            assert_eq!(admin_connections(limit), admin);
        }
    }
}
