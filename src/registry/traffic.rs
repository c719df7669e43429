//! The legs of live sessions, their traffic counters and round-trip times. A session counts in plain integers, and
//! publishes them here before it waits, not per frame.

use crate::proto::frame_tracker::FrameCounts;
use std::{
    sync::atomic::{AtomicU32, AtomicU64, Ordering::Relaxed},
    time::Duration,
};

/// A leg of a session.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LegSide {
    /// The leg of the client.
    Client,
    /// The leg of the backend.
    Backend,
}

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
pub(crate) struct TrafficCounters {
    from_client: DirectionCounters,
    from_backend: DirectionCounters,
}

/// The counters of one direction. There is one writer; a reader may see one value before the other is updated.
#[derive(Debug, Default)]
struct DirectionCounters {
    messages: AtomicU64,
    bytes: AtomicU64,
}

/// The last round-trip time of each leg, measured with Lockgate's own Pings. Written by the session task, read by the
/// admin API.
#[derive(Debug, Default)]
pub struct LegRtts {
    /// The round-trip time to the client.
    pub client: AtomicRtt,
    /// The round-trip time to the backend.
    pub backend: AtomicRtt,
}

/// A round-trip time in microseconds, capped at `u32::MAX` (71 minutes); 0 means none yet.
#[derive(Debug, Default)]
pub struct AtomicRtt(AtomicU32);

// === impl LegSide ===

impl LegSide {
    /// Returns the word for JSON.
    pub(crate) fn as_str(self) -> &'static str {
        match self {
            LegSide::Client => "client",
            LegSide::Backend => "backend",
        }
    }
}

// === impl TrafficCounters ===

impl TrafficCounters {
    /// Publishes the counts of both directions for readers in other tasks.
    pub(crate) fn publish(&self, from_client: FrameCounts, from_backend: FrameCounts) {
        self.from_client.publish(from_client);
        self.from_backend.publish(from_backend);
    }

    /// Returns the traffic from the client and from the backend.
    pub(crate) fn read(&self) -> (Traffic, Traffic) {
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

// === impl AtomicRtt ===

impl AtomicRtt {
    /// Stores a measured round-trip time.
    pub fn set(&self, rtt: Duration) {
        let micros = u32::try_from(rtt.as_micros()).unwrap_or(u32::MAX);
        self.0.store(micros.max(1), Relaxed);
    }

    /// Returns the last round-trip time, if one was measured.
    pub fn last(&self) -> Option<Duration> {
        match self.0.load(Relaxed) {
            0 => None,
            micros => Some(Duration::from_micros(micros.into())),
        }
    }
}
