//! One backend, and the leases on it.

use crate::config::BackendAddress;
use std::sync::{
    Arc,
    atomic::{AtomicBool, AtomicU64, Ordering},
};

/// One address of a pool. Its address is its identity.
#[derive(Debug)]
pub struct Backend {
    address: BackendAddress,
    name: Arc<str>,
    leases: AtomicU64,
    /// Finishes its sessions and takes no new ones, by an operator's order.
    draining: AtomicBool,
}

/// A taken place on a backend, from before the dial until the session or the request has ended; given back on drop.
#[derive(Debug)]
pub struct Lease(Arc<Backend>);

// === impl Backend ===

impl Backend {
    /// A backend that nobody uses yet.
    pub fn new(address: BackendAddress) -> Self {
        let name = address.to_string().into();
        Backend {
            address,
            name,
            leases: AtomicU64::new(0),
            draining: AtomicBool::new(false),
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
}

// === impl Lease ===

impl Lease {
    pub(super) fn new(backend: Arc<Backend>) -> Self {
        backend.leases.fetch_add(1, Ordering::Relaxed);
        Lease(backend)
    }

    /// The backend it is a place on.
    pub fn backend(&self) -> &Backend {
        &self.0
    }
}

impl Drop for Lease {
    fn drop(&mut self) {
        self.0.leases.fetch_sub(1, Ordering::Relaxed);
    }
}
