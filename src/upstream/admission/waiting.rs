//! Those who wait, and how they are handed what they wait for.

use super::{AdmissionQueue, queue::Ticket};
use crate::upstream::{Backend, Lease, Unavailable, entry::Member};
use std::sync::Arc;
use tokio::{
    sync::oneshot,
    time::{Instant, timeout_at},
};

/// Somebody who waits, as the queue has him.
#[derive(Debug)]
pub(super) struct Waiter {
    /// Where he has failed already.
    pub(super) tried: Box<[Arc<Backend>]>,
    /// The seed of the only one that can serve him.
    pub(super) only: Option<u64>,
    pub(super) grant_tx: oneshot::Sender<Lease>,
}

/// Somebody who waits; dropped, he leaves the queue, and what he was just given goes to the next.
#[derive(Debug)]
pub(in crate::upstream) struct QueueTicket {
    pub(super) admission: Arc<AdmissionQueue>,
    pub(super) ticket: Ticket,
    /// Dropped after `ticket` has left the queue.
    pub(super) hand: oneshot::Receiver<Lease>,
}

/// Places taken for those who waited, to be given to them once the queue is unlocked: giving may drop a lease, and that
/// looks into the queue.
#[must_use]
pub(super) struct Grants(pub(super) Vec<(Waiter, Lease)>);

// === impl Waiter ===

impl Waiter {
    /// Whether a place there is one for him. Whoever can be served nowhere else does not mind what state it is in.
    pub(super) fn accepts(&self, entry: &Member, is_open: bool, seeds: &[u64]) -> bool {
        let was_tried = |one: &Arc<Backend>| Arc::ptr_eq(one, &entry.backend);
        let suits = match self.only {
            // Gone meanwhile, it cannot serve him any more than others.
            Some(seed) if seeds.contains(&seed) => entry.id_hash == seed,
            _ => is_open,
        };
        suits && !self.tried.iter().any(was_tried)
    }
}

// === impl QueueTicket ===

impl QueueTicket {
    /// The place, once it is there.
    pub(in crate::upstream) async fn wait(mut self, until: Instant) -> Result<Lease, Unavailable> {
        match timeout_at(until, &mut self.hand).await {
            Ok(Ok(lease)) => Ok(lease),
            Ok(Err(_)) => Err(Unavailable::Unresolved),
            Err(_) => {
                self.leave();
                // It may have come just now.
                self.hand.try_recv().map_err(|_| Unavailable::QueueWait)
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
            // Whoever has left meanwhile leaves the lease here, and its drop finds the next.
            drop(waiter.grant_tx.send(lease));
        }
    }
}
