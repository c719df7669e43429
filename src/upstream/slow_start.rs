//! Slow start: a new or recovered backend receives a growing share of new sessions and requests.

use std::{
    sync::atomic::{AtomicU64, Ordering},
    time::Duration,
};
use tokio::time::Instant;

/// The start of a backend's slow start; each pool sets its length. Without slow start, a new backend would receive all
/// new sessions, because it has the fewest.
#[derive(Debug)]
pub(crate) struct SlowStart {
    /// The zero of `started_ms`.
    created: Instant,
    /// Milliseconds from `created` to the start, plus 1; 0: there was no slow start.
    started_ms: AtomicU64,
}

// === impl SlowStart ===

impl Default for SlowStart {
    fn default() -> Self {
        SlowStart {
            created: Instant::now(),
            started_ms: AtomicU64::new(0),
        }
    }
}

impl SlowStart {
    /// Starts a slow start at `now`.
    pub(crate) fn begin(&self, now: Instant) {
        let started_ms = millis(now.saturating_duration_since(self.created)) + 1;
        self.started_ms.store(started_ms, Ordering::Relaxed);
    }

    /// Returns a number that changes with every slow start.
    pub(crate) fn generation(&self) -> u64 {
        self.started_ms.load(Ordering::Relaxed)
    }

    /// Returns when a slow start of length `length` ends, which may be in the past; `None` if there was none.
    pub(crate) fn ends(&self, length: Duration) -> Option<Instant> {
        let started_ms = self.generation().checked_sub(1)?;
        self.created
            .checked_add(Duration::from_millis(started_ms) + length)
    }

    /// Returns the factor, which grows linearly from 0.1 to 1; `None` outside a slow start.
    pub(crate) fn factor(&self, now: Instant, length: Duration) -> Option<f64> {
        let started_ms = self.generation().checked_sub(1)?;
        let (now, length) = (
            millis(now.saturating_duration_since(self.created)),
            millis(length),
        );
        let passed = now.saturating_sub(started_ms);
        (passed < length)
            .then(|| INITIAL_FACTOR + (1.0 - INITIAL_FACTOR) * passed as f64 / length as f64)
    }
}

fn millis(time: Duration) -> u64 {
    time.as_millis().try_into().unwrap_or(u64::MAX - 1)
}

/// The factor at the beginning of a slow start.
const INITIAL_FACTOR: f64 = 0.1;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn factor_grows_from_a_tenth_to_one() {
        let slow_start = SlowStart::default();
        let length = Duration::from_secs(10);
        let factor =
            |millis| slow_start.factor(slow_start.created + Duration::from_millis(millis), length);
        assert_eq!(factor(0), None);
        slow_start.begin(slow_start.created + Duration::from_secs(1));
        assert_eq!(
            (factor(0), factor(1000), factor(6000)),
            (Some(0.1), Some(0.1), Some(0.55))
        );
        assert_eq!(factor(11_000), None);
        assert_eq!(
            slow_start.ends(length),
            Some(slow_start.created + Duration::from_secs(11))
        );
        slow_start.begin(slow_start.created);
        assert_eq!(slow_start.factor(slow_start.created, Duration::ZERO), None);
    }
}
