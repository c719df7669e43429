//! Backends: what outlives a configuration, and is shared by all that have it.

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

/// One address of a pool. Its address is its identity; what a configuration says about it stands in the pool's entry.
#[derive(Debug)]
pub struct Backend {
    address: BackendAddress,
    name: Arc<str>,
    load: LoadCounters,
    /// Finishes its sessions and takes no new ones, by an operator's order.
    draining: AtomicBool,
    health: BackendHealth,
    warmth: SlowStart,
    /// It is, or was, in a configuration in force.
    was_active: AtomicBool,
    /// Where those wait who may have a place here.
    queues: QueueSubscribers,
}

/// Every backend by its address, of which there is one however many pools have it, and for as long as a lease on it is held:
/// whoever is taken away and comes back meanwhile is the same.
#[derive(Debug, Default)]
pub struct Backends(HashMap<BackendAddress, Weak<Backend>>);

// === impl Backends ===

impl Backends {
    /// The one at this address; one that nobody uses yet, where there was none.
    pub(super) fn get_or_create(&mut self, address: &BackendAddress) -> Arc<Backend> {
        if let Some(known) = self.0.get(address).and_then(Weak::upgrade) {
            return known;
        }
        if self.0.len() == self.0.capacity() {
            // Before there is room for more, those go whom nobody has any more.
            self.0.retain(|_, backend| backend.strong_count() > 0);
        }
        let fresh = Arc::new(Backend::new(address.clone()));
        self.0.insert(address.clone(), Arc::downgrade(&fresh));
        fresh
    }

    /// These are known.
    #[cfg(test)]
    pub(super) fn known(backends: impl IntoIterator<Item = Arc<Backend>>) -> Self {
        let backends = backends.into_iter();
        let by_address =
            |backend: Arc<Backend>| (backend.address.clone(), Arc::downgrade(&backend));
        Backends(backends.map(by_address).collect())
    }
}

// === impl Backend ===

impl Backend {
    /// Nobody uses it yet.
    fn new(address: BackendAddress) -> Self {
        let name = address.to_string().into();
        Backend {
            address,
            name,
            load: LoadCounters::default(),
            draining: AtomicBool::new(false),
            health: BackendHealth::new(),
            warmth: SlowStart::default(),
            was_active: AtomicBool::new(false),
            queues: QueueSubscribers::default(),
        }
    }

    /// Where it listens.
    pub fn address(&self) -> &BackendAddress {
        &self.address
    }

    /// Its address in writing, shared.
    pub fn name(&self) -> &Arc<str> {
        &self.name
    }

    /// How it is.
    pub fn health(&self) -> &BackendHealth {
        &self.health
    }

    /// From now on it takes no new sessions and requests, or does so again, as one that is back ([`Backend::warm`]).
    pub fn drain(self: &Arc<Self>, draining: bool) {
        let was = self.draining.swap(draining, Ordering::SeqCst);
        if was && !draining {
            self.start_slow(Instant::now());
        } else {
            self.health.notify();
            self.offer();
        }
    }

    /// Whether it takes none.
    pub fn is_draining(&self) -> bool {
        self.draining.load(Ordering::Relaxed)
    }

    /// Whether it was in no configuration in force yet.
    pub(super) fn is_new(&self) -> bool {
        !self.was_active.load(Ordering::Relaxed)
    }

    /// It is back, or new: from `now` on it gets a growing part of what is new, for as long as its pool's `slow_start`. To be
    /// called when it may be chosen again, for those who wait have it then.
    pub fn start_slow(self: &Arc<Self>, now: Instant) {
        self.warmth.begin(now);
        self.health.notify();
        self.offer();
    }

    /// How likely it is to be looked at for something new, of 1, where getting warm takes `slow_start`; `None`: it always is.
    pub(super) fn warmth(&self, now: Instant, slow_start: Duration) -> Option<f64> {
        self.warmth.at(now, slow_start)
    }

    /// When it gets its whole share, if it does not yet.
    pub(super) fn warm_at(&self, slow_start: Duration) -> Option<Instant> {
        let ends = self.warmth.ends(slow_start)?;
        (ends > Instant::now()).then_some(ends)
    }

    /// Another number each time that it has come, or come back ([`Backend::warm`]).
    pub(super) fn generation(&self) -> u64 {
        self.warmth.begun()
    }

    /// How many leases are held.
    pub fn leases(&self) -> u64 {
        self.load.leases()
    }

    /// How many of them are shaking hands.
    pub fn handshakes(&self) -> u64 {
        self.load.handshakes()
    }

    pub(super) fn has_capacity(&self, most: LoadLimits) -> bool {
        self.load.has_capacity(most)
    }

    /// Counts one more, unless there are as many as `most` already.
    pub(super) fn take(&self, most: LoadLimits) -> bool {
        self.load.take(most)
    }

    /// It has answered: one fewer shakes hands.
    pub(super) fn settle(self: &Arc<Self>) {
        self.load.settle();
        self.offer();
    }

    pub(super) fn release(self: &Arc<Self>, shaking: bool) {
        self.load.give_back(shaking);
        self.offer();
    }

    /// It is in a configuration in force.
    pub(super) fn mark_active(&self) {
        self.was_active.store(true, Ordering::Relaxed);
    }

    /// From now on those in this queue hear of its places. As [`Queues::add`] says, they are looked for afterwards.
    pub(super) fn subscribe(&self, queue: &Arc<AdmissionQueue>) {
        self.queues.add(queue);
    }

    /// They do not any more.
    pub(super) fn unsubscribe(&self, queue: &AdmissionQueue) {
        self.queues.remove(queue);
    }

    /// How many queues hear of its places.
    #[cfg(test)]
    pub(super) fn subscriber_count(&self) -> usize {
        self.queues.now().len()
    }

    /// There may be a place here.
    fn offer(self: &Arc<Self>) {
        for queue in self.queues.now() {
            queue.offer(self);
        }
    }
}
