//! Traffic counters of live sessions. A session counts in plain integers, and publishes them here before it waits, not per
//! frame.

use crate::proto::track::FrameCounts;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

/// The traffic relayed in one direction.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Traffic {
    /// Data messages, counted at their first frame.
    pub messages: u64,
    /// Bytes of frames, including headers.
    pub bytes: u64,
}

/// The counters of both directions.
#[derive(Debug, Default)]
pub(super) struct TrafficCounters {
    from_client: DirectionCounters,
    from_backend: DirectionCounters,
}

/// The counters of one direction. There is one writer; a reader may see one value before the other is updated.
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
