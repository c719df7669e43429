//! The schedule of orders: pure arithmetic over the order history. Times are seconds since 1970.

use std::time::Duration;

use serde::{Deserialize, Serialize};

/// The order history of a name. It is stored next to the certificate, so that limits and delays survive a restart.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub(super) struct OrderHistory {
    /// Certificates issued in the last day.
    pub(super) issued: Vec<i64>,
    /// Validations that failed in the last hour.
    pub(super) invalid: Vec<i64>,
    /// Failures since the last success, of any kind.
    pub(super) failures: u32,
    /// The earliest time of the next order, unless an operator requests one.
    pub(super) next_attempt: Option<i64>,
    /// The earliest time of the next order according to the CA.
    pub(super) held_until: Option<i64>,
    /// The text of the CA's last error.
    pub(super) last_error: Option<String>,
}

// === impl OrderHistory ===

impl OrderHistory {
    /// Records a certificate that is valid until `not_after`.
    pub(super) fn succeed(&mut self, now: i64, not_after: i64, initial_backoff: Duration) {
        self.prune(now);
        self.issued.push(now);
        self.failures = 0;
        // Independent of the renewal time: certificates that are due at once must not cause orders in a loop.
        let wait = ((not_after - now) / 3)
            .min(DAY)
            .max(whole_seconds(initial_backoff));
        self.next_attempt = Some(now + wait);
        self.held_until = None;
        self.last_error = None;
    }

    /// Records a failure. `initial_backoff` is the delay after the first failure in a row, and `jitter` is from 0 to 1.
    pub(super) fn fail(
        &mut self,
        now: i64,
        failure: FailureRecord,
        initial_backoff: Duration,
        jitter: f64,
    ) {
        self.prune(now);
        if failure.invalid {
            self.invalid.push(now);
        }
        let wait = whole_seconds(backoff(initial_backoff, self.failures, jitter));
        self.failures = self.failures.saturating_add(1);
        self.held_until = failure
            .held_until
            .map(|held_until| held_until.min(now + MAX_RETRY_AFTER));
        self.next_attempt = Some(now + wait).max(self.held_until);
        self.last_error = Some(failure.text);
    }

    /// Returns the time before which no certificate is ordered. A time further away than any delay was recorded with a
    /// wrong clock and is ignored.
    pub(super) fn blocked_until(&self, now: i64) -> Option<i64> {
        let held_until = self.held_until.filter(|at| *at <= now + MAX_RETRY_AFTER);
        let next = self.next_attempt.filter(|at| *at <= now + DAY);
        next.max(held_until).max(self.budget_exhausted_until(now))
    }

    /// Returns the time until which the budget of failed validations is exhausted; `None` if it is not. Let's Encrypt
    /// allows five failed validations per hour.
    pub(super) fn budget_exhausted_until(&self, now: i64) -> Option<i64> {
        let recent = |at: &&i64| (now - HOUR..=now).contains(*at);
        let failed = self.invalid.iter().filter(recent).count();
        let oldest = self.invalid.iter().filter(recent).min()?;
        (failed >= MAX_INVALID_PER_HOUR).then_some(oldest + HOUR)
    }

    /// Returns true if a certificate was issued within the last day.
    pub(super) fn issued_within_a_day(&self, now: i64) -> bool {
        self.issued.iter().any(|at| (now - DAY..=now).contains(at))
    }

    /// Drops old entries, and entries in the future, which come from a wrong clock.
    fn prune(&mut self, now: i64) {
        self.issued.retain(|at| (now - DAY..=now).contains(at));
        self.invalid.retain(|at| (now - HOUR..=now).contains(at));
    }
}

/// A failed order, as the history records it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct FailureRecord {
    /// The error text, with the CA's detail if there is one.
    pub(super) text: String,
    /// True if the CA's validation of the name failed.
    pub(super) invalid: bool,
    /// The earliest time of the next order according to the CA.
    pub(super) held_until: Option<i64>,
}

/// Returns the renewal time: after two thirds of the lifetime, or up to 1/24 of the lifetime earlier. The offset
/// depends on `name`, so that certificates issued together are not renewed together.
pub(super) fn renewal(not_before: i64, not_after: i64, name: &str) -> i64 {
    let lifetime = (not_after - not_before).max(0);
    // The hash must be the same after every restart. FNV-1a suffices, because only the spread matters.
    let mix = |hash: u64, byte: u8| (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3);
    let offset = name.bytes().fold(0xcbf2_9ce4_8422_2325, mix) >> 32;
    let early = i64::try_from(offset % 1000).unwrap_or(0) * (lifetime / 24) / 1000;
    not_before + lifetime * 2 / 3 - early
}

/// Returns the backoff: `initial_backoff`, doubled with each failure up to six hours, ± 20 %.
fn backoff(initial_backoff: Duration, failures: u32, jitter: f64) -> Duration {
    let doubled = initial_backoff.saturating_mul(1 << failures.min(20));
    doubled.min(MAX_BACKOFF).mul_f64(0.8 + 0.4 * jitter)
}

fn whole_seconds(duration: Duration) -> i64 {
    i64::try_from(duration.as_secs().max(1)).unwrap_or(i64::MAX / 4)
}

/// One less than Let's Encrypt allows.
const MAX_INVALID_PER_HOUR: usize = 4;
const MAX_BACKOFF: Duration = Duration::from_secs(6 * 60 * 60);
const HOUR: i64 = 60 * 60;
const DAY: i64 = 24 * HOUR;
/// The maximum delay accepted from a CA.
const MAX_RETRY_AFTER: i64 = 7 * DAY;

#[cfg(test)]
mod tests {
    use super::*;

    const MINUTE: Duration = Duration::from_secs(60);
    const NOW: i64 = 1_800_000_000;

    fn failed(invalid: bool, held_until: Option<i64>) -> FailureRecord {
        FailureRecord {
            text: "because".into(),
            invalid,
            held_until,
        }
    }

    #[test]
    fn backoff_doubles_from_a_minute_to_six_hours() {
        let waits: Vec<_> = (0..12).map(|n| backoff(MINUTE, n, 0.5).as_secs()).collect();
        assert_eq!(waits[..4], [60, 120, 240, 480]);
        assert_eq!(waits[9..], [21_600, 21_600, 21_600]);
        assert_eq!(backoff(MINUTE, 0, 0.0).as_secs(), 48);
        assert_eq!(backoff(MINUTE, 0, 1.0).as_secs(), 72);
        assert!(backoff(MINUTE, u32::MAX, 1.0) <= MAX_BACKOFF.mul_f64(1.2));
    }

    #[test]
    fn four_failed_validations_exhaust_the_hourly_budget() {
        let mut history = OrderHistory::default();
        for n in 0..4 {
            assert_eq!(history.budget_exhausted_until(NOW + n), None);
            history.fail(NOW + n, failed(true, None), MINUTE, 0.5);
        }
        assert_eq!(history.budget_exhausted_until(NOW + 10), Some(NOW + HOUR));
        assert_eq!(history.budget_exhausted_until(NOW + HOUR + 1), None);
        // Failures to reach the CA do not use up the budget.
        let mut history = OrderHistory::default();
        for n in 0..100 {
            history.fail(NOW + n, failed(false, None), MINUTE, 0.5);
        }
        assert_eq!(history.budget_exhausted_until(NOW + 100), None);
        assert_eq!(history.failures, 100);
    }

    #[test]
    fn retry_after_of_the_ca_is_applied_up_to_a_maximum() {
        let mut history = OrderHistory::default();
        history.fail(NOW, failed(false, Some(NOW + HOUR)), MINUTE, 0.5);
        assert_eq!(history.next_attempt, Some(NOW + HOUR));
        history.fail(NOW, failed(false, Some(NOW + 1)), MINUTE, 0.5);
        assert_eq!(history.next_attempt, Some(NOW + 120));
        history.fail(NOW, failed(false, Some(i64::MAX)), MINUTE, 0.5);
        assert_eq!(history.next_attempt, Some(NOW + MAX_RETRY_AFTER));
        history.succeed(NOW, NOW + 90 * DAY, MINUTE);
        assert_eq!(
            (history.next_attempt, history.failures),
            (Some(NOW + DAY), 0)
        );
        history.succeed(NOW, NOW + 30, Duration::from_secs(1));
        assert_eq!(history.blocked_until(NOW), Some(NOW + 10));
        history.succeed(NOW, NOW + 30, MINUTE);
        assert_eq!(history.blocked_until(NOW), Some(NOW + 60));
        assert!(
            history.issued_within_a_day(NOW + DAY) && !history.issued_within_a_day(NOW + DAY + 1)
        );
    }

    #[test]
    fn history_entries_in_the_future_are_ignored() {
        let mut history = OrderHistory::default();
        for _ in 0..4 {
            history.fail(NOW + 80 * DAY, failed(true, None), MINUTE, 0.5);
        }
        assert!(history.blocked_until(NOW + 80 * DAY).is_some());
        assert_eq!(history.blocked_until(NOW), None);
        history.fail(
            NOW + 80 * DAY,
            failed(false, Some(NOW + 81 * DAY)),
            MINUTE,
            0.5,
        );
        assert_eq!(history.blocked_until(NOW), None);
        history.succeed(NOW + 80 * DAY, NOW + 170 * DAY, MINUTE);
        assert_eq!(history.budget_exhausted_until(NOW), None);
        assert!(!history.issued_within_a_day(NOW));
    }

    #[test]
    fn renewal_is_due_at_two_thirds_of_the_lifetime_or_slightly_before() {
        let lifetime = 90 * DAY;
        let mut seen = std::collections::BTreeSet::new();
        for n in 0..100 {
            let at = renewal(NOW, NOW + lifetime, &format!("host-{n}.test")) - NOW;
            assert!(
                at <= lifetime * 2 / 3 && at >= lifetime * 2 / 3 - lifetime / 24,
                "{at}"
            );
            seen.insert(at);
        }
        assert!(seen.len() > 80, "{seen:?}");
        let again = renewal(NOW, NOW + lifetime, "host-1.test");
        assert_eq!(again, renewal(NOW, NOW + lifetime, "host-1.test"));
        assert!((18..=20).contains(&(renewal(NOW, NOW + 30, "a.test") - NOW)));
    }
}
