//! The queues that hear of a backend's places.

use crate::upstream::admission::AdmissionQueue;
use std::sync::{
    Arc, Mutex, MutexGuard, PoisonError, Weak,
    atomic::{AtomicUsize, Ordering},
};

/// Of all the pools that have the backend, however many, those where somebody waits or is about to.
///
/// No place is missed: who is to wait puts his queue here, and only then looks for a place; who gives one back does that
/// first, and then looks here. Either he counts none: then `count` was raised after he had looked, and whoever raised it sees
/// the place, for all of these are sequentially consistent or parted by a fence that is. Or he counts some, and takes the
/// lock: then he finds the queue, or it comes once he has unlocked, and whoever puts it there sees the place.
#[derive(Debug, Default)]
pub(super) struct QueueSubscribers {
    /// How many: mostly none, and then whoever gives back reads nothing else.
    count: AtomicUsize,
    /// In the order in which they came. Weak, for they know the backend.
    waiting: Mutex<Vec<Weak<AdmissionQueue>>>,
}

// === impl QueueSubscribers ===

impl QueueSubscribers {
    /// To be followed by a sequentially consistent fence, and then by a look for a place.
    pub(super) fn add(&self, queue: &Arc<AdmissionQueue>) {
        let mut waiting = self.lock();
        waiting.push(Arc::downgrade(queue));
        self.count.store(waiting.len(), Ordering::SeqCst);
    }

    pub(super) fn remove(&self, queue: &AdmissionQueue) {
        let mut waiting = self.lock();
        waiting.retain(|one| !std::ptr::eq(one.as_ptr(), queue));
        self.count.store(waiting.len(), Ordering::SeqCst);
    }

    /// All of them at this moment. Not locked any more: whoever is handed a place may give it back at once, and then they are
    /// looked at again.
    pub(super) fn now(&self) -> Vec<Arc<AdmissionQueue>> {
        if self.count.load(Ordering::SeqCst) == 0 {
            return Vec::new();
        }
        self.lock().iter().filter_map(Weak::upgrade).collect()
    }

    fn lock(&self) -> MutexGuard<'_, Vec<Weak<AdmissionQueue>>> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
