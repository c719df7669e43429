//! How long a session's peers took to answer the last Ping of ours.

use std::{
    sync::atomic::{AtomicU32, Ordering::Relaxed},
    time::Duration,
};

/// The last round trip of each leg. Written by the session, read by whoever shows it.
#[derive(Debug, Default)]
pub struct LegRtts {
    /// To the client.
    pub client: AtomicRtt,
    /// To the backend.
    pub backend: AtomicRtt,
}

/// In microseconds; 0: none yet. More than 71 minutes are that.
#[derive(Debug, Default)]
pub struct AtomicRtt(AtomicU32);

// === impl AtomicRtt ===

impl AtomicRtt {
    /// It took so long.
    pub fn set(&self, took: Duration) {
        let micros = u32::try_from(took.as_micros()).unwrap_or(u32::MAX);
        self.0.store(micros.max(1), Relaxed);
    }

    /// How long the last one took, if there was one.
    pub fn last(&self) -> Option<Duration> {
        match self.0.load(Relaxed) {
            0 => None,
            micros => Some(Duration::from_micros(micros.into())),
        }
    }
}
