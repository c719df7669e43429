//! The admission queue of a pool: requests wait in it for a lease, and a released unit of capacity goes to one of them.
//!
//! A lease is granted to the first queued request that can use it. That request does not have to retry: no other
//! request overtakes it, and no other task wakes. The requests of a client that holds its share of a backend's
//! handshakes yield to those of other clients. One queue serves all configurations that have a pool of this name, so
//! a reload keeps every request at its position.

pub(crate) mod fifo;
pub(crate) mod subscribers;

use crate::{
    net::subnet::SubnetKey,
    upstream::{
        backend::{Backend, CapacitySubscriber},
        health::state::HealthTier,
        lease::Lease,
        member::{Member, eligible_tier},
        queue::fifo::{Queue, QueueLimit, Ticket},
        unavailable::Unavailable,
    },
};
use std::{
    net::IpAddr,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError, Weak,
        atomic::{AtomicUsize, Ordering, fence},
    },
};
use tokio::{
    sync::oneshot,
    time::{Instant, timeout_at},
};

/// The queue of a pool.
#[derive(Debug)]
pub(crate) struct AdmissionQueue {
    /// Number of queued requests, plus one for each request that is checking for capacity or for the queue limit. A new
    /// request reads this first, and usually nothing else.
    queue_len: AtomicUsize,
    inner: Mutex<Inner>,
}

#[derive(Debug)]
struct Inner {
    /// The members of the active configuration; no lease is granted on any other backend.
    members: Vec<Arc<Member>>,
    /// Whether members that are down may be used if all of them are down.
    try_down: bool,
    queue: Queue<Waiter>,
    /// Whether `members` notify this queue of free capacity; not needed while the queue is empty.
    subscribed: bool,
}

/// A request for a lease.
#[derive(Debug, Clone, Copy)]
pub(crate) struct QueueRequest<'a> {
    pub(crate) client: IpAddr,
    pub(crate) tried: &'a [Arc<Backend>],
    /// The `id_hash` of the only member that can serve the request.
    pub(crate) only: Option<u64>,
    /// Maximum length of the queue.
    pub(crate) queue_limit: usize,
}

/// A lease, or a position in the queue.
pub(crate) enum Admitted {
    Lease(Lease),
    Queued(QueueTicket),
}

/// A queued request, as stored in the queue.
#[derive(Debug)]
struct Waiter {
    /// The backends that have failed for this request.
    tried: Box<[Arc<Backend>]>,
    /// The `id_hash` of the only member that can serve the request.
    only: Option<u64>,
    grant_tx: oneshot::Sender<Lease>,
}

/// A queued request. On drop it leaves the queue, and a lease that was just granted to it goes to the next request.
#[derive(Debug)]
pub(crate) struct QueueTicket {
    admission: Arc<AdmissionQueue>,
    ticket: Ticket,
    /// Dropped after `ticket` has left the queue.
    grant_rx: oneshot::Receiver<Lease>,
}

/// Leases granted while the queue was locked. They are delivered after it is unlocked, because delivery may drop a
/// lease, and that locks the queue.
#[must_use]
struct Grants(Vec<(Waiter, Lease)>);

// === impl AdmissionQueue ===

impl AdmissionQueue {
    pub(crate) fn new() -> Self {
        AdmissionQueue {
            queue_len: AtomicUsize::new(0),
            inner: Mutex::new(Inner {
                members: Vec::new(),
                try_down: false,
                queue: Queue::new(),
                subscribed: false,
            }),
        }
    }

    /// Returns whether the queue is empty, so that a new request may take free capacity at once.
    pub(crate) fn is_idle(&self) -> bool {
        self.queue_len() == 0
    }

    /// Returns the number of queued requests.
    pub(crate) fn queue_len(&self) -> usize {
        self.queue_len.load(Ordering::SeqCst)
    }

    /// Rejects all queued requests because no backend is left that is worth waiting for.
    pub(crate) fn reject_all(&self) {
        let mut inner = self.lock();
        let rejected = inner.queue.clear();
        self.unlock(inner);
        // Dropping the senders notifies the queued requests.
        drop(rejected);
    }

    /// Sets the members, each with the limits that it has in this pool.
    pub(crate) fn set_members(self: &Arc<Self>, members: &[Arc<Member>], try_down: bool) {
        for member in members {
            member.backend.mark_active();
        }
        let mut inner = self.lock();
        self.unsubscribe(&mut inner);
        inner.members = members.to_vec();
        inner.try_down = try_down;
        if inner.queue.len() > 0 {
            self.subscribe(&mut inner);
        }
        let grants = inner.offer_all();
        self.unlock(inner);
        grants.deliver();
    }

    /// Returns the lease that `pick` finds if no queued request can use it; otherwise queues the request.
    ///
    /// 1. The request is counted as queued and the queue subscribes to releases, so that no release is missed: a
    ///    release frees the capacity first and reads the subscribers afterwards ([`Subscribers`]).
    /// 2. Free capacity is granted to the requests that were queued earlier.
    /// 3. `pick` looks for a lease. If all members are full, the request is queued.
    /// 4. The count becomes the length of the queue, and the lock is released.
    /// 5. The grants are delivered: their receivers may drop them, which takes the lock again.
    ///
    /// [`Subscribers`]: crate::upstream::queue::subscribers::Subscribers
    pub(crate) fn enter(
        self: &Arc<Self>,
        request: QueueRequest<'_>,
        pick: impl FnOnce() -> Result<Lease, Unavailable>,
    ) -> Result<Admitted, Unavailable> {
        let mut inner = self.lock();
        if request.queue_limit > 0 {
            self.queue_len
                .store(inner.queue.len() + 1, Ordering::SeqCst);
            self.subscribe(&mut inner);
        }
        let grants = inner.offer_all();
        let result = match pick() {
            Ok(lease) => Ok(Admitted::Lease(lease)),
            Err(Unavailable::Full) if request.queue_limit > 0 => {
                let (grant_tx, grant_rx) = oneshot::channel();
                let waiter = Waiter {
                    tried: request.tried.into(),
                    only: request.only,
                    grant_tx,
                };
                let ticket = inner
                    .queue
                    .push(request.client, request.queue_limit, waiter);
                let queued = |ticket| {
                    Admitted::Queued(QueueTicket {
                        admission: self.clone(),
                        ticket,
                        grant_rx,
                    })
                };
                ticket.map(queued).map_err(|limit| match limit {
                    QueueLimit::Full => Unavailable::QueueFull,
                    QueueLimit::Share => Unavailable::QueueShare,
                })
            }
            Err(why) => Err(why),
        };
        self.unlock(inner);
        grants.deliver();
        result
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn unlock(&self, mut inner: MutexGuard<'_, Inner>) {
        self.queue_len.store(inner.queue.len(), Ordering::SeqCst);
        if inner.queue.len() == 0 {
            self.unsubscribe(&mut inner);
        }
    }

    /// Subscribes to the members' releases. Capacity that is free already must be checked for afterwards.
    fn subscribe(self: &Arc<Self>, inner: &mut Inner) {
        if !inner.subscribed {
            inner.subscribed = true;
            let queue: Weak<AdmissionQueue> = Arc::downgrade(self);
            for member in &inner.members {
                member.backend.subscribe(queue.clone());
            }
        }
        fence(Ordering::SeqCst);
    }

    fn unsubscribe(&self, inner: &mut Inner) {
        if std::mem::take(&mut inner.subscribed) {
            for member in &inner.members {
                member.backend.unsubscribe(self);
            }
        }
    }
}

impl CapacitySubscriber for AdmissionQueue {
    /// Grants the capacity to the first queued request that can use it.
    fn offer(&self, backend: &Arc<Backend>) {
        if !self.is_idle() {
            let mut inner = self.lock();
            let mut members = inner.members.iter();
            let member = members.find(|member| Arc::ptr_eq(&member.backend, backend));
            let grants = match member.cloned() {
                Some(member) => inner.offer(&member),
                None => Grants(Vec::new()),
            };
            self.unlock(inner);
            grants.deliver();
        }
    }
}

// === impl Inner ===

impl Inner {
    fn offer_all(&mut self) -> Grants {
        let mut grants = Grants(Vec::new());
        if self.queue.len() > 0 {
            for member in self.members.clone() {
                grants.0.extend(self.offer(&member).0);
            }
        }
        grants
    }

    fn offer(&mut self, member: &Arc<Member>) -> Grants {
        let mut grants = Grants(Vec::new());
        let is_open = member.is_open(self.tier());
        let id_hashes: Vec<u64> = self.members.iter().map(|one| one.id_hash).collect();
        while member.has_capacity()
            && let Some((first, client)) = self.next(member, is_open, &id_hashes)
            && let Some(lease) = Lease::acquire(member, client.pack())
        {
            let waiter = self.queue.remove(first);
            grants.0.extend(waiter.map(|waiter| (waiter, lease)));
        }
        grants
    }

    /// Returns the request that gets the next lease on `member`: the first of a client with less than its share of the
    /// handshakes in progress, otherwise the first that the limit per client admits.
    fn next(
        &self,
        member: &Member,
        is_open: bool,
        id_hashes: &[u64],
    ) -> Option<(Ticket, SubnetKey)> {
        let limits = member.limits();
        let first = |max| {
            self.queue.first(|client, waiter| {
                member.backend.handshakes_of(client.pack()) < max
                    && waiter.accepts(member, is_open, id_hashes)
            })
        };
        first(limits.fair_handshakes()).or_else(|| first(limits.handshakes_of_one_client()))
    }

    /// Returns the least tier that is eligible.
    fn tier(&self) -> HealthTier {
        let members = self.members.iter().map(|member| &**member);
        let serving = members.filter(|member| !member.backend.is_draining());
        eligible_tier(serving, self.try_down, Member::has_lease_capacity)
    }
}

// === impl Waiter ===

impl Waiter {
    /// Returns whether the request can use capacity on this member. A request that only one member can serve ignores
    /// the member's state.
    fn accepts(&self, member: &Member, is_open: bool, id_hashes: &[u64]) -> bool {
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
    pub(crate) async fn wait(mut self, until: Instant) -> Result<Lease, Unavailable> {
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
    fn deliver(self) {
        for (waiter, lease) in self.0 {
            // If the request was cancelled, the lease is dropped here, and its drop finds the next request.
            drop(waiter.grant_tx.send(lease));
        }
    }
}

#[cfg(test)]
mod tests;
