//! Slow start: an empty backend would else get all that is new, for it has the fewest sessions.

use std::{
    sync::atomic::{AtomicU64, Ordering},
    time::Duration,
};
use tokio::time::Instant;

/// Since when a backend gets warm. How long that takes is its pools' affair.
#[derive(Debug)]
pub(super) struct SlowStart {
    /// What the time below counts from.
    born: Instant,
    /// Milliseconds after that, plus 1; 0: it has always been there.
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

    /// Another one each time that it has begun.
    pub(super) fn begun(&self) -> u64 {
        self.since.load(Ordering::Relaxed)
    }

    /// When it is warm, where that takes `takes`; may be long ago. `None`: it always was.
    pub(super) fn ends(&self, takes: Duration) -> Option<Instant> {
        let begun = self.begun().checked_sub(1)?;
        self.born.checked_add(Duration::from_millis(begun) + takes)
    }

    /// From a tenth to 1, in a line; `None` where it is warm.
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
