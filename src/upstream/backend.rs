//! Backends: state that survives reloads and is shared by all configurations that use the same address.

mod load;
mod queues;
mod warmth;

pub(super) use load::LoadLimits;

use super::{admission::AdmissionQueue, health::BackendHealth};
use crate::config::BackendAddress;
use load::LoadCounters;
use queues::QueueSubscribers;
use std::{
    collections::HashMap,
    sync::{
        Arc, Weak,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};
use tokio::time::Instant;
use warmth::SlowStart;

/// One address of a pool; the address identifies the backend. Its settings are in the pool's `Member`.
#[derive(Debug)]
pub struct Backend {
    address: BackendAddress,
    name: Arc<str>,
    load: LoadCounters,
    /// Whether the operator has ordered a drain: sessions finish, new ones are not accepted.
    draining: AtomicBool,
    health: BackendHealth,
    slow_start: SlowStart,
    /// Whether it is or was in an active configuration.
    was_active: AtomicBool,
    /// The queues whose requests may get a lease on this backend.
    queues: QueueSubscribers,
}

/// All backends by address. Several pools share one backend. It is kept for as long as a lease on it is held, so a
/// backend that is removed and added again in the meantime keeps its state.
#[derive(Debug, Default)]
pub struct Backends(HashMap<BackendAddress, Weak<Backend>>);

// === impl Backends ===

impl Backends {
    /// Returns the backend at this address, or creates one that is not in use yet.
    pub(super) fn get_or_create(&mut self, address: &BackendAddress) -> Arc<Backend> {
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
    pub(super) fn containing(backends: impl IntoIterator<Item = Arc<Backend>>) -> Self {
        let backends = backends.into_iter();
        let by_address =
            |backend: Arc<Backend>| (backend.address.clone(), Arc::downgrade(&backend));
        Backends(backends.map(by_address).collect())
    }
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
            draining: AtomicBool::new(false),
            health: BackendHealth::new(),
            slow_start: SlowStart::default(),
            was_active: AtomicBool::new(false),
            queues: QueueSubscribers::default(),
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

    /// Returns its health.
    pub fn health(&self) -> &BackendHealth {
        &self.health
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
    pub(super) fn is_new(&self) -> bool {
        !self.was_active.load(Ordering::Relaxed)
    }

    /// Starts slow start at `now`, of a new or recovered backend: it receives a growing share of new
    /// sessions and requests for its pool's `slow_start`. Must be called after the backend has become eligible, because
    /// queued requests are granted leases at once.
    pub fn start_slow(self: &Arc<Self>, now: Instant) {
        self.slow_start.begin(now);
        self.health.notify();
        self.offer_capacity();
    }

    /// Returns the probability, from 0 to 1, that it is considered for new work during a slow start of length
    /// `slow_start`; `None`: it always is.
    pub(super) fn slow_start_factor(&self, now: Instant, slow_start: Duration) -> Option<f64> {
        self.slow_start.factor(now, slow_start)
    }

    /// Returns when it receives its full share; `None` if it does already.
    pub(super) fn slow_start_ends(&self, slow_start: Duration) -> Option<Instant> {
        let ends = self.slow_start.ends(slow_start)?;
        (ends > Instant::now()).then_some(ends)
    }

    /// Returns a number that changes with every slow start ([`Backend::start_slow`]).
    pub(super) fn generation(&self) -> u64 {
        self.slow_start.generation()
    }

    /// Returns the number of leases held.
    pub fn leases(&self) -> u64 {
        self.load.leases()
    }

    /// Returns the number of leases in the handshake phase.
    pub fn handshakes(&self) -> u64 {
        self.load.handshakes()
    }

    pub(super) fn has_capacity(&self, limits: LoadLimits) -> bool {
        self.load.has_capacity(limits)
    }

    /// Counts one more lease, unless one of `limits` is reached.
    pub(super) fn try_acquire(&self, limits: LoadLimits) -> bool {
        self.load.try_acquire(limits)
    }

    /// Ends the handshake phase of one lease: the backend has answered.
    pub(super) fn settle(self: &Arc<Self>) {
        self.load.settle();
        self.offer_capacity();
    }

    pub(super) fn release(self: &Arc<Self>, handshaking: bool) {
        self.load.release(handshaking);
        self.offer_capacity();
    }

    /// Marks it as part of an active configuration.
    pub(super) fn mark_active(&self) {
        self.was_active.store(true, Ordering::Relaxed);
    }

    /// Notifies this queue of free capacity from now on. The caller checks for capacity afterwards, as
    /// [`QueueSubscribers::add`] explains.
    pub(super) fn subscribe(&self, queue: &Arc<AdmissionQueue>) {
        self.queues.add(queue);
    }

    /// Stops notifying this queue.
    pub(super) fn unsubscribe(&self, queue: &AdmissionQueue) {
        self.queues.remove(queue);
    }

    /// Returns the number of queues that are notified of free capacity.
    #[cfg(test)]
    pub(super) fn subscriber_count(&self) -> usize {
        self.queues.snapshot().len()
    }

    /// Offers capacity that may be free to the subscribed queues.
    fn offer_capacity(self: &Arc<Self>) {
        for queue in self.queues.snapshot() {
            queue.offer(self);
        }
    }
}
