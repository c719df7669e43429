//! Who waits for a place on a pool's backends, and how one that gets free is handed over.
//!
//! A place is handed to the first who can take it, who need not ask again: nobody overtakes him, and nobody else wakes.
//! One queue serves all configurations that have a pool of this name, so a reload leaves everybody where he stands.

mod queue;
mod waiting;

use super::{Backend, Lease, Unavailable, entry::Member};
use queue::{Queue, QueueLimit};
use std::{
    net::IpAddr,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicUsize, Ordering, fence},
    },
};
use tokio::sync::oneshot;
use waiting::{Grants, QueueTicket, Waiter};

/// The queue of a pool.
#[derive(Debug)]
pub(super) struct AdmissionQueue {
    /// How many wait, and one more while somebody looks for a place or a queue's end: whoever comes anew reads this first,
    /// and mostly nothing else.
    waiting: AtomicUsize,
    inner: Mutex<Inner>,
}

#[derive(Debug)]
struct Inner {
    /// The backends of the configuration in force: no place on another one is handed over.
    members: Vec<Arc<Member>>,
    /// Where all of them are down, they are tried all the same.
    try_down: bool,
    queue: Queue<Waiter>,
    /// `members` tell this queue of their places; while nobody waits they need not.
    subscribed: bool,
}

/// Somebody who wants a place.
#[derive(Debug, Clone, Copy)]
pub(super) struct QueueRequest<'a> {
    pub(super) client: IpAddr,
    pub(super) tried: &'a [Arc<Backend>],
    /// The seed of the only one that can serve him.
    pub(super) only: Option<u64>,
    /// How many may wait.
    pub(super) queue: usize,
}

/// A place, or one in the queue.
pub(super) enum Admitted {
    Lease(Lease),
    Queued(QueueTicket),
}

// === impl AdmissionQueue ===

impl AdmissionQueue {
    pub(super) fn new() -> Self {
        AdmissionQueue {
            waiting: AtomicUsize::new(0),
            inner: Mutex::new(Inner {
                members: Vec::new(),
                try_down: false,
                queue: Queue::new(),
                subscribed: false,
            }),
        }
    }

    /// Whether nobody waits: then whoever comes may take a place where he finds it.
    pub(super) fn is_idle(&self) -> bool {
        self.waiting() == 0
    }

    /// How many wait.
    pub(super) fn waiting(&self) -> usize {
        self.waiting.load(Ordering::SeqCst)
    }

    /// There may be a place on `backend`: it goes to the first who can take it.
    pub(super) fn offer(&self, backend: &Arc<Backend>) {
        if !self.is_idle() {
            let mut inner = self.lock();
            let mut members = inner.members.iter();
            let entry = members.find(|entry| Arc::ptr_eq(&entry.backend, backend));
            let handed = match entry.cloned() {
                Some(entry) => inner.offer(&entry),
                None => Grants(Vec::new()),
            };
            self.unlock(inner);
            handed.deliver();
        }
    }

    /// There is nobody whom it would be worth waiting for.
    pub(super) fn reject_all(&self) {
        let mut inner = self.lock();
        let gone = inner.queue.clear();
        self.unlock(inner);
        // Whoever waited is told by this.
        drop(gone);
    }

    /// From now on these are the backends, each with the ceilings that it has here.
    pub(super) fn set_members(self: &Arc<Self>, members: &[Arc<Member>], try_down: bool) {
        for entry in members {
            entry.backend.mark_active();
        }
        let mut inner = self.lock();
        self.unsubscribe(&mut inner);
        inner.members = members.to_vec();
        inner.try_down = try_down;
        if inner.queue.len() > 0 {
            self.subscribe(&mut inner);
        }
        let handed = inner.offer_all();
        self.unlock(inner);
        handed.deliver();
    }

    /// A place that `pick` finds and nobody who waits can take, or else one in the queue.
    pub(super) fn enter(
        self: &Arc<Self>,
        wish: QueueRequest<'_>,
        pick: impl FnOnce() -> Result<Lease, Unavailable>,
    ) -> Result<Admitted, Unavailable> {
        let mut inner = self.lock();
        if wish.queue > 0 {
            // Before he looks for a place, so that none is missed: whoever gives one back does it the other way round.
            self.waiting.store(inner.queue.len() + 1, Ordering::SeqCst);
            self.subscribe(&mut inner);
        }
        let handed = inner.offer_all();
        let entered = match pick() {
            Ok(lease) => Ok(Admitted::Lease(lease)),
            Err(Unavailable::Full) if wish.queue > 0 => {
                let (hand, waiting) = oneshot::channel();
                let waiter = Waiter {
                    tried: wish.tried.into(),
                    only: wish.only,
                    grant_tx: hand,
                };
                let ticket = inner.queue.push(wish.client, wish.queue, waiter);
                let waiting = |ticket| {
                    Admitted::Queued(QueueTicket {
                        admission: self.clone(),
                        ticket,
                        hand: waiting,
                    })
                };
                ticket.map(waiting).map_err(|surplus| match surplus {
                    QueueLimit::Full => Unavailable::QueueFull,
                    QueueLimit::Share => Unavailable::QueueShare,
                })
            }
            Err(why) => Err(why),
        };
        self.unlock(inner);
        handed.deliver();
        entered
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn unlock(&self, mut inner: MutexGuard<'_, Inner>) {
        self.waiting.store(inner.queue.len(), Ordering::SeqCst);
        if inner.queue.len() == 0 {
            self.unsubscribe(&mut inner);
        }
    }

    /// From now on its members tell it of their places. Those that are free already are still to be looked for.
    fn subscribe(self: &Arc<Self>, inner: &mut Inner) {
        if !inner.subscribed {
            inner.subscribed = true;
            for entry in &inner.members {
                entry.backend.subscribe(self);
            }
        }
        fence(Ordering::SeqCst);
    }

    fn unsubscribe(&self, inner: &mut Inner) {
        if std::mem::take(&mut inner.subscribed) {
            for entry in &inner.members {
                entry.backend.unsubscribe(self);
            }
        }
    }
}

// === impl Inner ===

impl Inner {
    fn offer_all(&mut self) -> Grants {
        let mut handed = Grants(Vec::new());
        if self.queue.len() > 0 {
            for entry in self.members.clone() {
                handed.0.extend(self.offer(&entry).0);
            }
        }
        handed
    }

    fn offer(&mut self, entry: &Arc<Member>) -> Grants {
        let mut handed = Grants(Vec::new());
        let is_open = entry.is_open(self.allow_unhealthy());
        let seeds: Vec<u64> = self.members.iter().map(|one| one.id_hash).collect();
        while entry.has_capacity()
            && let Some(first) = self
                .queue
                .first(|waiter| waiter.accepts(entry, is_open, &seeds))
            && let Some(lease) = Lease::take(entry)
        {
            let waiter = self.queue.remove(first);
            handed.0.extend(waiter.map(|waiter| (waiter, lease)));
        }
        handed
    }

    /// Whether those that are down have to do.
    fn allow_unhealthy(&self) -> bool {
        let mut members = self.members.iter();
        self.try_down && !members.any(|entry| entry.is_open(false))
    }
}

#[cfg(test)]
mod tests;
