//! The progress that a client must make with a body (`limits.body_idle`, `limits.body_min_rate`).
//!
//! Only the time in which Lockgate waits for the client counts: while it expects bytes of a request body, or while the
//! client does not accept bytes of a response.

use crate::config;
use std::time::Duration;
use tokio::time::Instant;

/// The slowest progress that is permitted.
#[derive(Debug, Clone, Copy)]
pub(crate) struct ProgressLimits {
    /// The longest wait without a byte, and the time over which the rate is measured.
    idle: Duration,
    /// Bytes per second; 0: no limit.
    min_rate: u32,
}

/// Measures the progress of one peer in one direction.
#[derive(Debug)]
pub(crate) struct ProgressMeter {
    limits: ProgressLimits,
    waiting: Option<Waiting>,
    /// The time of completed waits since the rate was last checked.
    waited: Duration,
    /// The bytes moved since then.
    bytes: u64,
}

/// A wait for the peer.
#[derive(Debug, Clone, Copy)]
struct Waiting {
    since: Instant,
    /// When it began, or when the last byte was moved.
    moved_at: Instant,
}

// === impl ProgressLimits ===

impl ProgressLimits {
    /// Returns the limits of a client.
    pub(crate) fn of_client(limits: &config::Limits) -> Self {
        ProgressLimits {
            idle: limits.body_idle.0,
            min_rate: limits.body_min_rate,
        }
    }

    /// Limits a wait without a byte only.
    pub(crate) fn idle(idle: Duration) -> Self {
        ProgressLimits { idle, min_rate: 0 }
    }

    /// Returns the same limits without a minimum rate.
    pub(crate) fn without_rate(self) -> Self {
        Self::idle(self.idle)
    }

    /// Returns the longest wait without a byte.
    pub(crate) fn longest_wait(self) -> Duration {
        self.idle
    }
}

// === impl ProgressMeter ===

impl ProgressMeter {
    pub(crate) fn new(limits: ProgressLimits) -> Self {
        ProgressMeter {
            limits,
            waiting: None,
            waited: Duration::ZERO,
            bytes: 0,
        }
    }

    /// Begins a wait, unless one has begun. Returns whether it has begun now.
    pub(crate) fn wait(&mut self, now: Instant) -> bool {
        let begins = self.waiting.is_none();
        self.waiting.get_or_insert(Waiting {
            since: now,
            moved_at: now,
        });
        begins
    }

    /// Ends a wait: the peer is not the cause of a delay from now on.
    pub(crate) fn stop(&mut self, now: Instant) {
        if let Some(waiting) = self.waiting.take() {
            self.waited += now - waiting.since;
        }
    }

    /// Records bytes that the peer has sent or accepted.
    pub(crate) fn record_bytes(&mut self, bytes: u64, now: Instant) {
        self.bytes = self.bytes.saturating_add(bytes);
        if let Some(waiting) = &mut self.waiting {
            waiting.moved_at = now;
        }
    }

    /// Returns the earliest time at which the current wait may exceed a limit.
    pub(crate) fn deadline(&self) -> Option<Instant> {
        let waiting = self.waiting?;
        let idle = waiting.moved_at + self.limits.idle;
        if self.limits.min_rate == 0 {
            return Some(idle);
        }
        let measured = waiting.since + self.limits.idle.saturating_sub(self.waited);
        Some(idle.min(measured))
    }

    /// Returns whether the peer is too slow. The rate is checked once per [`ProgressLimits::idle`] of waiting, and its
    /// measurement starts again.
    pub(crate) fn is_overdue(&mut self, now: Instant) -> bool {
        let Some(waiting) = &mut self.waiting else {
            return false;
        };
        if now >= waiting.moved_at + self.limits.idle {
            return true;
        }
        let waited = self.waited + (now - waiting.since);
        if self.limits.min_rate == 0 || waited < self.limits.idle {
            return false;
        }
        let due = waited.as_secs_f64() * f64::from(self.limits.min_rate);
        let is_overdue = (self.bytes as f64) < due;
        waiting.since = now;
        self.waited = Duration::ZERO;
        self.bytes = 0;
        is_overdue
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    fn meter(min_rate: u32) -> ProgressMeter {
        ProgressMeter::new(ProgressLimits {
            idle: 10 * SECOND,
            min_rate,
        })
    }

    #[test]
    fn wait_without_a_byte_is_overdue_after_idle() {
        let (mut meter, start) = (meter(0), Instant::now());
        assert_eq!(meter.deadline(), None);
        assert!(meter.wait(start) && !meter.wait(start + SECOND));
        assert_eq!(meter.deadline(), Some(start + 10 * SECOND));
        meter.record_bytes(1, start + 9 * SECOND);
        assert!(!meter.is_overdue(start + 18 * SECOND));
        assert_eq!(meter.deadline(), Some(start + 19 * SECOND));
        assert!(meter.is_overdue(start + 19 * SECOND));
    }

    #[test]
    fn rate_is_the_mean_over_idle() {
        let (mut meter, start) = (meter(100), Instant::now());
        meter.wait(start);
        meter.record_bytes(1000, start + 5 * SECOND);
        assert_eq!(meter.deadline(), Some(start + 10 * SECOND));
        assert!(!meter.is_overdue(start + 10 * SECOND));
        // The measurement has started again.
        meter.record_bytes(999, start + 15 * SECOND);
        assert_eq!(meter.deadline(), Some(start + 20 * SECOND));
        assert!(!meter.is_overdue(start + 19 * SECOND));
        assert!(meter.is_overdue(start + 20 * SECOND));
    }

    #[test]
    fn time_between_waits_does_not_count() {
        let (mut meter, start) = (meter(100), Instant::now());
        for hour in 0..9 {
            let from = start + hour * 3600 * SECOND;
            meter.wait(from);
            meter.record_bytes(1, from + SECOND);
            meter.stop(from + SECOND);
            assert_eq!(meter.deadline(), None);
            assert!(!meter.is_overdue(from + 100 * SECOND));
        }
        let from = start + 100_000 * SECOND;
        meter.wait(from);
        assert_eq!(meter.deadline(), Some(from + SECOND));
        assert!(meter.is_overdue(from + SECOND));
    }
}
