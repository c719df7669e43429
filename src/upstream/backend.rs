//! Backends: what outlives a configuration, and is shared by all that have it.

use super::health::Health;
use crate::config::BackendAddress;
use std::{
    collections::HashMap,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
};

/// One address of a pool. Its address is its identity; what a configuration says about it stands in the pool's entry.
#[derive(Debug)]
pub struct Backend {
    address: BackendAddress,
    name: Arc<str>,
    leases: AtomicU64,
    /// Finishes its sessions and takes no new ones, by an operator's order.
    draining: AtomicBool,
    health: Health,
}

/// Every backend by its address, of which there is one however many pools have it.
#[derive(Debug, Default)]
pub struct Backends(HashMap<BackendAddress, Arc<Backend>>);

// === impl Backends ===

impl Backends {
    /// Those of an earlier configuration: they stay the same, with their leases.
    pub fn known<'a>(backends: impl IntoIterator<Item = &'a Arc<Backend>>) -> Self {
        let backends = backends.into_iter();
        Backends(
            backends
                .map(|backend| (backend.address.clone(), backend.clone()))
                .collect(),
        )
    }

    /// The one at this address; one that nobody uses yet, where there was none.
    pub(super) fn at(&mut self, address: &BackendAddress) -> Arc<Backend> {
        let fresh = || Arc::new(Backend::new(address.clone()));
        let known = self.0.entry(address.clone());
        known.or_insert_with(fresh).clone()
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
            leases: AtomicU64::new(0),
            draining: AtomicBool::new(false),
            health: Health::new(),
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
    pub fn health(&self) -> &Health {
        &self.health
    }

    /// From now on it takes no new sessions and requests, or does so again.
    pub fn drain(&self, draining: bool) {
        self.draining.store(draining, Ordering::Relaxed);
    }

    /// Whether it takes none.
    pub fn is_draining(&self) -> bool {
        self.draining.load(Ordering::Relaxed)
    }

    /// How many leases are held.
    pub fn leases(&self) -> u64 {
        self.leases.load(Ordering::Relaxed)
    }

    /// Counts one more, unless there are `most` already.
    pub(super) fn take(&self, most: u64) -> bool {
        let more = |leases| (leases < most).then_some(leases + 1);
        let taken = self
            .leases
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, more);
        taken.is_ok()
    }

    pub(super) fn give_back(&self) {
        self.leases.fetch_sub(1, Ordering::Relaxed);
    }
}
