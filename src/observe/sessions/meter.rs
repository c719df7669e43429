//! What has passed in a live session, for those who look. The session counts for itself, in plain integers, and copies
//! them here when it has nothing more to do for the moment: never frame by frame.

use crate::proto::track::FrameCounts;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

/// What has passed from one leg to the other.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Traffic {
    /// Data messages begun.
    pub messages: u64,
    /// Bytes, headers included.
    pub bytes: u64,
}

/// Both directions.
#[derive(Debug, Default)]
pub(super) struct TrafficCounters {
    from_client: DirectionCounters,
    from_backend: DirectionCounters,
}

/// One writer; a reader may see one of the two a moment before the other.
#[derive(Debug, Default)]
struct DirectionCounters {
    messages: AtomicU64,
    bytes: AtomicU64,
}

// === impl TrafficCounters ===

impl TrafficCounters {
    pub(super) fn publish(&self, from_client: FrameCounts, from_backend: FrameCounts) {
        self.from_client.publish(from_client);
        self.from_backend.publish(from_backend);
    }

    pub(super) fn read(&self) -> (Traffic, Traffic) {
        (self.from_client.read(), self.from_backend.read())
    }
}

// === impl DirectionCounters ===

impl DirectionCounters {
    fn publish(&self, counts: FrameCounts) {
        self.messages.store(counts.messages, Relaxed);
        self.bytes.store(counts.bytes, Relaxed);
    }

    fn read(&self) -> Traffic {
        Traffic {
            messages: self.messages.load(Relaxed),
            bytes: self.bytes.load(Relaxed),
        }
    }
}
