//! Queued requests, and how leases are delivered to them.

use super::{AdmissionQueue, queue::Ticket};
use crate::upstream::{Backend, Lease, Unavailable, entry::Member};
use std::sync::Arc;
use tokio::{
    sync::oneshot,
    time::{Instant, timeout_at},
};

/// A queued request, as stored in the queue.
#[derive(Debug)]
pub(super) struct Waiter {
    /// The backends that have failed for this request.
    pub(super) tried: Box<[Arc<Backend>]>,
    /// The `id_hash` of the only member that can serve the request.
    pub(super) only: Option<u64>,
    pub(super) grant_tx: oneshot::Sender<Lease>,
}

/// A queued request. On drop it leaves the queue, and a lease that was just granted to it goes to the next request.
#[derive(Debug)]
pub(in crate::upstream) struct QueueTicket {
    pub(super) admission: Arc<AdmissionQueue>,
    pub(super) ticket: Ticket,
    /// Dropped after `ticket` has left the queue.
    pub(super) grant_rx: oneshot::Receiver<Lease>,
}

/// Leases granted while the queue was locked. They are delivered after it is unlocked, because delivery may drop a
/// lease, and that locks the queue.
#[must_use]
pub(super) struct Grants(pub(super) Vec<(Waiter, Lease)>);

// === impl Waiter ===

impl Waiter {
    /// Returns whether the request can use capacity on this member. A request that only one member can serve ignores
    /// the member's state.
    pub(super) fn accepts(&self, member: &Member, is_open: bool, id_hashes: &[u64]) -> bool {
        let was_tried = |one: &Arc<Backend>| Arc::ptr_eq(one, &member.backend);
        let is_usable = match self.only {
            // A member that has left the pool cannot serve its request either.
            Some(id_hash) if id_hashes.contains(&id_hash) => member.id_hash == id_hash,
            _ => is_open,
        };
        is_usable && !self.tried.iter().any(was_tried)
    }
}

// === impl QueueTicket ===

impl QueueTicket {
    /// Waits for the lease and returns it.
    pub(in crate::upstream) async fn wait(mut self, until: Instant) -> Result<Lease, Unavailable> {
        match timeout_at(until, &mut self.grant_rx).await {
            Ok(Ok(lease)) => Ok(lease),
            Ok(Err(_)) => Err(Unavailable::Unresolved),
            Err(_) => {
                self.leave();
                // The lease may have arrived just now.
                self.grant_rx.try_recv().map_err(|_| Unavailable::QueueWait)
            }
        }
    }

    fn leave(&self) {
        let mut inner = self.admission.lock();
        inner.queue.remove(self.ticket);
        self.admission.unlock(inner);
    }
}

impl Drop for QueueTicket {
    fn drop(&mut self) {
        self.leave();
    }
}

// === impl Grants ===

impl Grants {
    pub(super) fn deliver(self) {
        for (waiter, lease) in self.0 {
            // If the request was cancelled, the lease is dropped here, and its drop finds the next request.
            drop(waiter.grant_tx.send(lease));
        }
    }
}
