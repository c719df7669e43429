//! Backends: state that survives reloads and is shared by all configurations that use the same address. It consists of
//! the load, the slow start, the health and the drain.

use crate::{
    config::BackendAddress,
    net::{coarse_clock::CoarseInstant, subnet::PackedSubnet},
    upstream::{
        clients::BackendClients,
        health::{BackendHealth, state::Condition},
        queue::subscribers::Subscribers,
    },
};
use std::{
    collections::HashMap,
    fmt,
    sync::{
        Arc, Weak,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::Duration,
};
use tokio::time::Instant;

/// One address of a pool; the address identifies the backend. Its settings are in the pool's `Member`.
#[derive(Debug)]
pub struct Backend {
    address: BackendAddress,
    name: Arc<str>,
    load: LoadCounters,
    clients: BackendClients,
    /// Whether the operator has ordered a drain: no new sessions and requests are accepted, and the sessions are closed
    /// one by one.
    draining: AtomicBool,
    health: BackendHealth,
    /// Whether it is or was in an active configuration.
    was_active: AtomicBool,
    /// The queues whose requests may get a lease on this backend.
    queues: Subscribers<dyn CapacitySubscriber>,
}

/// The state of a backend in a pool, derived from its health, its drain and its slow start, as reported by status, log
/// and metrics.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum BackendState {
    /// Accepts new sessions and requests.
    Up,
    /// New or recovered: receives a growing share of new sessions and requests for the pool's `slow_start`.
    Warming,
    /// Accepts no new sessions or requests, as ordered by the operator.
    Draining,
    /// Health checks fail.
    Down,
    /// Sessions or requests failed; the backend is not used for a limited time.
    Ejected,
    /// Not in DNS any longer: accepts no new sessions or requests.
    Vanished,
}

/// All backends by address. Several pools share one backend. It is kept for as long as a lease on it is held, so a
/// backend that is removed and added again in the meantime keeps its state.
#[derive(Debug, Default)]
pub struct Backends(HashMap<BackendAddress, Weak<Backend>>);

/// A queue whose requests may get a lease on a backend.
pub(crate) trait CapacitySubscriber: fmt::Debug + Send + Sync {
    /// Offers the capacity of `backend`, which may have become free, to the queued requests.
    fn offer(&self, backend: &Arc<Backend>);
}

/// The load of a backend: its leases, and those of them in the handshake phase. Both counts are in one number, so that
/// one exchange acquires both: leases in the low half, handshakes in the high half.
#[derive(Debug, Default)]
struct LoadCounters {
    counts: AtomicU64,
}

/// The limits that a pool sets for both counts, in the same halves.
#[derive(Debug, Clone, Copy)]
pub(crate) struct LoadLimits {
    all: u64,
    /// The same with the handshakes that one client may have, which leaves a quarter to others; every pick reads both.
    one_client: u64,
}

// === impl Backend ===

impl Backend {
    /// Creates a backend that is not in use yet.
    fn new(address: BackendAddress) -> Self {
        let name = address.to_string().into();
        Backend {
            address,
            name,
            load: LoadCounters::default(),
            clients: BackendClients::new(),
            draining: AtomicBool::new(false),
            health: BackendHealth::new(),
            was_active: AtomicBool::new(false),
            queues: Subscribers::default(),
        }
    }

    /// Returns the address that it listens on.
    pub fn address(&self) -> &BackendAddress {
        &self.address
    }

    /// Returns its address as text, shared.
    pub fn name(&self) -> &Arc<str> {
        &self.name
    }

    /// Returns the results of its health checks and its ejection.
    pub fn health(&self) -> &BackendHealth {
        &self.health
    }

    /// Records that a connection was established. If the last connect had no answer in time, the backend is no longer
    /// the last choice, and queued requests may use it.
    pub(crate) fn record_connected(self: &Arc<Self>) {
        if self.health.record_connected() {
            self.offer_capacity();
        }
    }

    /// Starts or ends a drain. A draining backend accepts no new sessions or requests; when the drain ends, slow start
    /// begins ([`Backend::start_slow`]).
    pub fn drain(self: &Arc<Self>, draining: bool) {
        let was = self.draining.swap(draining, Ordering::SeqCst);
        if was && !draining {
            self.start_slow(Instant::now());
        } else {
            self.health.notify();
            self.offer_capacity();
        }
    }

    /// Returns whether it is draining.
    pub fn is_draining(&self) -> bool {
        self.draining.load(Ordering::Relaxed)
    }

    /// Returns whether it has not been in an active configuration yet.
    pub(crate) fn is_new(&self) -> bool {
        !self.was_active.load(Ordering::Relaxed)
    }

    /// Starts slow start at `now`, of a new or recovered backend: it receives a growing share of new
    /// sessions and requests for its pool's `slow_start`. Must be called after the backend has become eligible, because
    /// queued requests are granted leases at once.
    pub fn start_slow(self: &Arc<Self>, now: Instant) {
        self.health.slow_start().begin(now);
        self.health.notify();
        self.offer_capacity();
    }

    /// Returns the probability, from 0 to 1, that it is considered for new work during a slow start of length
    /// `slow_start`; `None`: it always is.
    pub(crate) fn slow_start_factor(&self, now: Instant, slow_start: Duration) -> Option<f64> {
        self.health.slow_start().factor(now, slow_start)
    }

    /// Returns when it receives its full share; `None` if it does already.
    pub(crate) fn slow_start_ends(&self, slow_start: Duration) -> Option<Instant> {
        let ends = self.health.slow_start().ends(slow_start)?;
        (ends > Instant::now()).then_some(ends)
    }

    /// Returns the state of a backend that is configured or in DNS. A drain takes precedence over health: it applies in
    /// both conditions.
    pub(crate) fn state(&self, now: Instant, slow_start: Duration) -> BackendState {
        match self.health.condition().0 {
            _ if self.is_draining() => BackendState::Draining,
            Condition::Up if self.slow_start_factor(now, slow_start).is_some() => {
                BackendState::Warming
            }
            Condition::Up => BackendState::Up,
            Condition::Down => BackendState::Down,
            Condition::Ejected => BackendState::Ejected,
        }
    }

    /// Returns a number that changes with every slow start ([`Backend::start_slow`]).
    pub(crate) fn generation(&self) -> u64 {
        self.health.slow_start().generation()
    }

    /// Returns the number of leases held.
    pub fn leases(&self) -> u64 {
        self.load.leases()
    }

    /// Returns the number of leases in the handshake phase.
    pub fn handshakes(&self) -> u64 {
        self.load.handshakes()
    }

    pub(crate) fn has_capacity(&self, limits: LoadLimits) -> bool {
        self.load.is_below(limits.all)
    }

    /// Returns whether there is capacity for another handshake of `client`.
    pub(crate) fn has_capacity_for(&self, limits: LoadLimits, client: PackedSubnet) -> bool {
        // Usually there is room, however many of the handshakes are those of `client`.
        self.load.is_below(limits.one_client)
            || self.has_capacity(limits)
                && self.handshakes_of(client) < limits.handshakes_of_one_client()
    }

    /// Returns the number of leases of `client` in the handshake phase, which is in rare cases too large.
    pub(crate) fn handshakes_of(&self, client: PackedSubnet) -> u64 {
        self.clients.handshakes(client)
    }

    /// Returns whether another client than `client` has a handshake in progress, or got a lease within `window`.
    pub(crate) fn has_other_client(&self, client: PackedSubnet, window: Duration) -> bool {
        let (handshakes, now) = (self.handshakes(), CoarseInstant::now());
        self.clients.has_other(client, handshakes, now, window)
    }

    /// Counts one more lease and handshake of `client`, unless one of `limits` is reached.
    pub(crate) fn try_acquire(&self, limits: LoadLimits, client: PackedSubnet) -> bool {
        let max = limits.handshakes_of_one_client();
        if !self.clients.begin(client, max) {
            return false;
        }
        let is_acquired = self.load.try_acquire(limits);
        if is_acquired {
            self.clients.record_lease(client, CoarseInstant::now());
        } else {
            self.clients.end(client);
        }
        is_acquired
    }

    /// Ends the handshake phase of one lease of `client`: the backend has answered.
    pub(crate) fn settle(self: &Arc<Self>, client: PackedSubnet) {
        self.clients.end(client);
        self.load.settle();
        self.offer_capacity();
    }

    /// Ends one lease, and offers the capacity to queued requests; `handshaking`: its client, if it is in the handshake
    /// phase.
    pub(crate) fn release(self: &Arc<Self>, handshaking: Option<PackedSubnet>) {
        if let Some(client) = handshaking {
            self.clients.end(client);
        }
        self.load.release(handshaking.is_some());
        self.offer_capacity();
    }

    /// Marks it as part of an active configuration.
    pub(crate) fn mark_active(&self) {
        self.was_active.store(true, Ordering::Relaxed);
    }

    /// Notifies this queue of free capacity from now on. The caller checks for capacity afterwards, as
    /// [`Subscribers::add`] explains.
    pub(crate) fn subscribe(&self, queue: Weak<dyn CapacitySubscriber>) {
        self.queues.add(queue);
    }

    /// Stops notifying this queue.
    pub(crate) fn unsubscribe(&self, queue: &(dyn CapacitySubscriber + 'static)) {
        self.queues.remove(queue);
    }

    /// Returns the number of queues that are notified of free capacity.
    #[cfg(test)]
    pub(crate) fn subscriber_count(&self) -> usize {
        self.queues.snapshot().len()
    }

    /// Offers capacity that may be free to the subscribed queues.
    pub(crate) fn offer_capacity(self: &Arc<Self>) {
        for queue in self.queues.snapshot() {
            queue.offer(self);
        }
    }
}

// === impl BackendState ===

impl BackendState {
    /// All states.
    pub const ALL: [BackendState; 6] = [
        BackendState::Up,
        BackendState::Warming,
        BackendState::Draining,
        BackendState::Down,
        BackendState::Ejected,
        BackendState::Vanished,
    ];

    /// Returns the word of a closed set.
    pub fn as_str(self) -> &'static str {
        match self {
            BackendState::Up => Condition::Up.as_str(),
            BackendState::Warming => "warming",
            BackendState::Draining => "draining",
            BackendState::Down => Condition::Down.as_str(),
            BackendState::Ejected => Condition::Ejected.as_str(),
            BackendState::Vanished => "vanished",
        }
    }
}

// === impl Backends ===

impl Backends {
    /// Returns the backend at this address, or creates one that is not in use yet.
    pub(crate) fn get_or_create(&mut self, address: &BackendAddress) -> Arc<Backend> {
        if let Some(known) = self.0.get(address).and_then(Weak::upgrade) {
            return known;
        }
        if self.0.len() == self.0.capacity() {
            // Backends without references are removed before the table grows.
            self.0.retain(|_, backend| backend.strong_count() > 0);
        }
        let backend = Arc::new(Backend::new(address.clone()));
        self.0.insert(address.clone(), Arc::downgrade(&backend));
        backend
    }

    /// Adds existing backends.
    #[cfg(test)]
    pub(crate) fn containing(backends: impl IntoIterator<Item = Arc<Backend>>) -> Self {
        let backends = backends.into_iter();
        let by_address =
            |backend: Arc<Backend>| (backend.address.clone(), Arc::downgrade(&backend));
        Backends(backends.map(by_address).collect())
    }
}

// === impl LoadCounters ===

impl LoadCounters {
    fn leases(&self) -> u64 {
        self.counts.load(Ordering::Relaxed) & LEASE_MASK
    }

    fn handshakes(&self) -> u64 {
        self.counts.load(Ordering::Relaxed) >> HANDSHAKE_SHIFT
    }

    /// Returns whether both counts are below `limits`, which have the same halves.
    fn is_below(&self, limits: u64) -> bool {
        fits(self.counts.load(Ordering::Relaxed), limits)
    }

    /// Increments both counts unless a limit is reached; each pool has its own limits.
    fn try_acquire(&self, limits: LoadLimits) -> bool {
        let more = |counts| fits(counts, limits.all).then_some(counts + ONE_OF_BOTH);
        let (set, fetch) = (Ordering::Relaxed, Ordering::Relaxed);
        self.counts.fetch_update(set, fetch, more).is_ok()
    }

    // Sequentially consistent, because a release reads the queue afterwards: see `Subscribers`.

    fn settle(&self) {
        self.counts.fetch_sub(ONE_HANDSHAKE, Ordering::SeqCst);
    }

    fn release(&self, handshaking: bool) {
        let released = if handshaking { ONE_OF_BOTH } else { ONE_LEASE };
        self.counts.fetch_sub(released, Ordering::SeqCst);
    }
}

// === impl LoadLimits ===

impl LoadLimits {
    /// Creates the limits; 0 means no limit.
    pub(crate) fn new(leases: u32, handshakes: u32) -> Self {
        // One less than the half can hold, so that no count overflows into the other half.
        let max = |configured: u32| u64::from(configured.wrapping_sub(1).min(u32::MAX - 2) + 1);
        let (leases, handshakes) = (max(leases), max(handshakes));
        let of_one_client = handshakes - handshakes / HANDSHAKE_SHARE;
        LoadLimits {
            all: handshakes << HANDSHAKE_SHIFT | leases,
            one_client: of_one_client << HANDSHAKE_SHIFT | leases,
        }
    }

    /// Returns the maximum number of leases.
    pub(crate) fn leases(self) -> u64 {
        self.all & LEASE_MASK
    }

    /// Returns the maximum number of handshakes of one client.
    pub(crate) fn handshakes_of_one_client(self) -> u64 {
        self.one_client >> HANDSHAKE_SHIFT
    }

    /// Returns the number of handshakes from which on a client must let others go first, if they wait.
    pub(crate) fn fair_handshakes(self) -> u64 {
        ((self.all >> HANDSHAKE_SHIFT) / HANDSHAKE_SHARE).max(1)
    }
}

fn fits(counts: u64, limits: u64) -> bool {
    counts & LEASE_MASK < limits & LEASE_MASK
        && counts >> HANDSHAKE_SHIFT < limits >> HANDSHAKE_SHIFT
}

const HANDSHAKE_SHIFT: u32 = 32;

const LEASE_MASK: u64 = (1 << HANDSHAKE_SHIFT) - 1;

const ONE_LEASE: u64 = 1;

const ONE_HANDSHAKE: u64 = 1 << HANDSHAKE_SHIFT;

const ONE_OF_BOTH: u64 = ONE_LEASE + ONE_HANDSHAKE;

/// While others wait, one client may use 1/4 of the handshakes; otherwise it leaves 1/4 to others.
const HANDSHAKE_SHARE: u64 = 4;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_limits_hold_and_zero_means_no_limit() {
        let load = LoadCounters::default();
        let limits = LoadLimits::new(3, 2);
        assert!(load.try_acquire(limits) && load.try_acquire(limits) && !load.try_acquire(limits));
        load.settle();
        assert!(load.try_acquire(limits) && !load.is_below(limits.all));
        assert_eq!((load.leases(), load.handshakes()), (3, 2));
        load.release(true);
        assert!(load.is_below(limits.all));
        load.release(false);
        load.release(true);
        assert_eq!((load.leases(), load.handshakes()), (0, 0));
        let all = LoadLimits::new(0, 0);
        assert!((0..1000).all(|_| load.try_acquire(all)));
        assert!(load.try_acquire(LoadLimits::new(u32::MAX, u32::MAX)) && !load.try_acquire(limits));
    }
}
