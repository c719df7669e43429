//! The queues that are notified of free capacity on a backend.

use crate::upstream::admission::AdmissionQueue;
use std::sync::{
    Arc, Mutex, MutexGuard, PoisonError, Weak,
    atomic::{AtomicUsize, Ordering},
};

/// Subscribed queues: of all pools that use the backend, those with requests that are queued or about to be.
///
/// No release is missed. A request that is about to wait subscribes its queue here and checks for capacity afterwards;
/// a release returns the capacity first and reads this list afterwards. If the release reads a count of 0, the count
/// was raised later, and the request sees the capacity, because these operations are sequentially consistent or
/// separated by a fence that is. If the release reads a higher count, it takes the lock: then it either finds the
/// queue, or the queue is added after the unlock, and the request that adds it sees the capacity.
#[derive(Debug, Default)]
pub(super) struct QueueSubscribers {
    /// Number of subscribed queues; usually 0, and then a release reads nothing else.
    count: AtomicUsize,
    /// In the order of subscription. Weak, because queues hold references to the backend.
    queues: Mutex<Vec<Weak<AdmissionQueue>>>,
}

// === impl QueueSubscribers ===

impl QueueSubscribers {
    /// Adds a queue. Must be followed by a sequentially consistent fence, and then by a check for capacity.
    pub(super) fn add(&self, queue: &Arc<AdmissionQueue>) {
        let mut queues = self.lock();
        queues.push(Arc::downgrade(queue));
        self.count.store(queues.len(), Ordering::SeqCst);
    }

    pub(super) fn remove(&self, queue: &AdmissionQueue) {
        let mut queues = self.lock();
        queues.retain(|one| !std::ptr::eq(one.as_ptr(), queue));
        self.count.store(queues.len(), Ordering::SeqCst);
    }

    /// Returns a snapshot of all queues, so that the lock is not held: a request may release its new lease at once, and
    /// that reads the list again.
    pub(super) fn snapshot(&self) -> Vec<Arc<AdmissionQueue>> {
        if self.count.load(Ordering::SeqCst) == 0 {
            return Vec::new();
        }
        self.lock().iter().filter_map(Weak::upgrade).collect()
    }

    fn lock(&self) -> MutexGuard<'_, Vec<Weak<AdmissionQueue>>> {
        self.queues.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
