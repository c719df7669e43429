//! Round-trip times of Lockgate's own Pings.

use std::{
    sync::atomic::{AtomicU32, Ordering::Relaxed},
    time::Duration,
};

/// The last round-trip time of each leg. Written by the session task, read by the admin API.
#[derive(Debug, Default)]
pub struct LegRtts {
    /// Client leg.
    pub client: AtomicRtt,
    /// Backend leg.
    pub backend: AtomicRtt,
}

/// A round-trip time in microseconds, capped at `u32::MAX` (71 minutes); 0 means none yet.
#[derive(Debug, Default)]
pub struct AtomicRtt(AtomicU32);

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
