//! The queues that are notified of free capacity on a backend.

use std::{
    ptr,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError, Weak,
        atomic::{AtomicUsize, Ordering},
    },
};

/// Subscribed queues: of all pools that use the backend, those with requests that are queued or about to be.
///
/// No release is missed. A request that is about to wait subscribes its queue here and checks for capacity afterwards;
/// a release returns the capacity first and reads this list afterwards. If the release reads a count of 0, the count
/// was raised later, and the request sees the capacity, because these operations are sequentially consistent or
/// separated by a fence that is. If the release reads a higher count, it takes the lock: then it either finds the
/// queue, or the queue is added after the unlock, and the request that adds it sees the capacity.
#[derive(Debug)]
pub(crate) struct Subscribers<T: ?Sized> {
    /// Number of subscribed queues; usually 0, and then a release reads nothing else.
    count: AtomicUsize,
    /// In the order of subscription. Weak, because queues hold references to the backend.
    queues: Mutex<Vec<Weak<T>>>,
}

// === impl Subscribers ===

impl<T: ?Sized> Default for Subscribers<T> {
    fn default() -> Self {
        Subscribers {
            count: AtomicUsize::new(0),
            queues: Mutex::default(),
        }
    }
}

impl<T: ?Sized> Subscribers<T> {
    /// Adds a queue. Must be followed by a sequentially consistent fence, and then by a check for capacity.
    pub(crate) fn add(&self, queue: Weak<T>) {
        let mut queues = self.lock();
        queues.push(queue);
        self.count.store(queues.len(), Ordering::SeqCst);
    }

    /// Removes a queue, if it is subscribed.
    pub(crate) fn remove(&self, queue: &T) {
        let mut queues = self.lock();
        queues.retain(|one| !ptr::addr_eq(one.as_ptr(), ptr::from_ref(queue)));
        self.count.store(queues.len(), Ordering::SeqCst);
    }

    /// Returns a snapshot of all queues, so that the lock is not held: a request may release its new lease at once, and
    /// that reads the list again.
    pub(crate) fn snapshot(&self) -> Vec<Arc<T>> {
        if self.count.load(Ordering::SeqCst) == 0 {
            return Vec::new();
        }
        self.lock().iter().filter_map(Weak::upgrade).collect()
    }

    fn lock(&self) -> MutexGuard<'_, Vec<Weak<T>>> {
        self.queues.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
