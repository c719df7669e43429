//! Slow start: without it, a new backend would receive all new sessions because it has the fewest.

use std::{
    sync::atomic::{AtomicU64, Ordering},
    time::Duration,
};
use tokio::time::Instant;

/// The start of a backend's slow start. Its length is set by each pool.
#[derive(Debug)]
pub(super) struct SlowStart {
    /// The reference point of `since`.
    born: Instant,
    /// Milliseconds from `born` to the start, plus 1; 0: there was no slow start.
    since: AtomicU64,
}

// === impl SlowStart ===

impl Default for SlowStart {
    fn default() -> Self {
        SlowStart {
            born: Instant::now(),
            since: AtomicU64::new(0),
        }
    }
}

impl SlowStart {
    pub(super) fn begin(&self, now: Instant) {
        let since = millis(now.saturating_duration_since(self.born)) + 1;
        self.since.store(since, Ordering::Relaxed);
    }

    /// Returns a number that changes with every slow start.
    pub(super) fn begun(&self) -> u64 {
        self.since.load(Ordering::Relaxed)
    }

    /// Returns when a slow start of length `takes` ends, which may be in the past; `None` if there was none.
    pub(super) fn ends(&self, takes: Duration) -> Option<Instant> {
        let begun = self.begun().checked_sub(1)?;
        self.born.checked_add(Duration::from_millis(begun) + takes)
    }

    /// Returns the share, which grows linearly from 0.1 to 1; `None` after the slow start.
    pub(super) fn at(&self, now: Instant, takes: Duration) -> Option<f64> {
        let begun = self.begun().checked_sub(1)?;
        let (now, takes) = (
            millis(now.saturating_duration_since(self.born)),
            millis(takes),
        );
        let passed = now.saturating_sub(begun);
        (passed < takes).then(|| FIRST + (1.0 - FIRST) * passed as f64 / takes as f64)
    }
}

fn millis(time: Duration) -> u64 {
    time.as_millis().try_into().unwrap_or(u64::MAX - 1)
}

const FIRST: f64 = 0.1;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_grows_from_a_tenth_to_all() {
        let warmth = SlowStart::default();
        let takes = Duration::from_secs(10);
        let at = |millis| warmth.at(warmth.born + Duration::from_millis(millis), takes);
        assert_eq!(at(0), None);
        warmth.begin(warmth.born + Duration::from_secs(1));
        assert_eq!(
            (at(0), at(1000), at(6000)),
            (Some(0.1), Some(0.1), Some(0.55))
        );
        assert_eq!(at(11_000), None);
        assert_eq!(
            warmth.ends(takes),
            Some(warmth.born + Duration::from_secs(11))
        );
        warmth.begin(warmth.born);
        assert_eq!(warmth.at(warmth.born, Duration::ZERO), None);
    }
}
