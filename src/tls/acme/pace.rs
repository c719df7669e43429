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
    pub(super) fn succeed(&mut self, now: i64, not_after: i64, first: Duration) {
        self.forget(now);
        self.issued.push(now);
        self.failures = 0;
        // Independent of the renewal time: certificates that are due at once must not cause orders in a loop.
        let wait = ((not_after - now) / 3).min(DAY).max(seconds(first));
        self.next_attempt = Some(now + wait);
        self.held_until = None;
        self.last_error = None;
    }

    /// Records a failure. `first` is the delay after the first failure in a row, `chance` is the jitter from 0 to 1, and
    /// `hold` is the earliest time that the CA allows.
    pub(super) fn fail(&mut self, now: i64, why: FailureRecord, first: Duration, chance: f64) {
        self.forget(now);
        if why.invalid {
            self.invalid.push(now);
        }
        let wait = seconds(backoff(first, self.failures, chance));
        self.failures = self.failures.saturating_add(1);
        self.held_until = why.hold.map(|hold| hold.min(now + MAX_RETRY_AFTER));
        self.next_attempt = Some(now + wait).max(self.held_until);
        self.last_error = Some(why.text);
    }

    /// Returns the time before which nothing is ordered. A time further away than any delay can be was recorded with a
    /// wrong clock and is ignored.
    pub(super) fn blocked_until(&self, now: i64) -> Option<i64> {
        let hold = self.held_until.filter(|at| *at <= now + MAX_RETRY_AFTER);
        let next = self.next_attempt.filter(|at| *at <= now + DAY);
        next.max(hold).max(self.budget_exhausted_until(now))
    }

    /// Returns the time until which the budget of failed validations is exhausted; `None` if it is not. Let's Encrypt
    /// allows five failed validations per hour.
    pub(super) fn budget_exhausted_until(&self, now: i64) -> Option<i64> {
        let recent = |at: &&i64| (now - HOUR..=now).contains(*at);
        let failed = self.invalid.iter().filter(recent).count();
        let oldest = self.invalid.iter().filter(recent).min()?;
        (failed >= INVALID_AN_HOUR).then_some(oldest + HOUR)
    }

    /// Returns true if a certificate was issued within the last day.
    pub(super) fn issued_lately(&self, now: i64) -> bool {
        self.issued.iter().any(|at| (now - DAY..=now).contains(at))
    }

    /// Drops old entries, and entries in the future, which come from a wrong clock.
    fn forget(&mut self, now: i64) {
        self.issued.retain(|at| (now - DAY..=now).contains(at));
        self.invalid.retain(|at| (now - HOUR..=now).contains(at));
    }
}

/// A failed order, as the history records it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct FailureRecord {
    /// The error text, with the CA's detail if there is one.
    pub(super) text: String,
    /// True if the CA queried the challenge response and did not find it.
    pub(super) invalid: bool,
    /// The earliest time of the next order according to the CA.
    pub(super) hold: Option<i64>,
}

/// Returns the renewal time: after two thirds of the lifetime, or up to 1/24 of the lifetime earlier. The offset depends
/// on `name`, so that certificates issued together are not renewed together.
pub(super) fn renewal(not_before: i64, not_after: i64, name: &str) -> i64 {
    let life = (not_after - not_before).max(0);
    // The same after every restart. FNV-1a suffices, because the values only have to be spread.
    let mix = |hash: u64, byte: u8| (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3);
    let spread = name.bytes().fold(0xcbf2_9ce4_8422_2325, mix) >> 32;
    let early = i64::try_from(spread % 1000).unwrap_or(0) * (life / 24) / 1000;
    not_before + life * 2 / 3 - early
}

/// Returns the backoff: `first`, doubled with each failure up to six hours, ± 20 %.
fn backoff(first: Duration, failures: u32, chance: f64) -> Duration {
    let doubled = first.saturating_mul(1 << failures.min(20));
    doubled.min(MAX_BACKOFF).mul_f64(0.8 + 0.4 * chance)
}

fn seconds(duration: Duration) -> i64 {
    i64::try_from(duration.as_secs().max(1)).unwrap_or(i64::MAX / 4)
}

/// One less than Let's Encrypt allows.
const INVALID_AN_HOUR: usize = 4;
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

    fn failed(invalid: bool, hold: Option<i64>) -> FailureRecord {
        FailureRecord {
            text: "because".into(),
            invalid,
            hold,
        }
    }

    #[test]
    fn waits_double_from_a_minute_to_six_hours() {
        let waits: Vec<_> = (0..12).map(|n| backoff(MINUTE, n, 0.5).as_secs()).collect();
        assert_eq!(waits[..4], [60, 120, 240, 480]);
        assert_eq!(waits[9..], [21_600, 21_600, 21_600]);
        assert_eq!(backoff(MINUTE, 0, 0.0).as_secs(), 48);
        assert_eq!(backoff(MINUTE, 0, 1.0).as_secs(), 72);
        assert!(backoff(MINUTE, u32::MAX, 1.0) <= MAX_BACKOFF.mul_f64(1.2));
    }

    #[test]
    fn four_failed_validations_an_hour_are_enough() {
        let mut ledger = OrderHistory::default();
        for n in 0..4 {
            assert_eq!(ledger.budget_exhausted_until(NOW + n), None);
            ledger.fail(NOW + n, failed(true, None), MINUTE, 0.5);
        }
        assert_eq!(ledger.budget_exhausted_until(NOW + 10), Some(NOW + HOUR));
        assert_eq!(ledger.budget_exhausted_until(NOW + HOUR + 1), None);
        // A CA that is down does not use up the budget.
        let mut ledger = OrderHistory::default();
        for n in 0..100 {
            ledger.fail(NOW + n, failed(false, None), MINUTE, 0.5);
        }
        assert_eq!(ledger.budget_exhausted_until(NOW + 100), None);
        assert_eq!(ledger.failures, 100);
    }

    #[test]
    fn retry_after_of_the_ca_is_obeyed_up_to_a_maximum() {
        let mut ledger = OrderHistory::default();
        ledger.fail(NOW, failed(false, Some(NOW + HOUR)), MINUTE, 0.5);
        assert_eq!(ledger.next_attempt, Some(NOW + HOUR));
        ledger.fail(NOW, failed(false, Some(NOW + 1)), MINUTE, 0.5);
        assert_eq!(ledger.next_attempt, Some(NOW + 120));
        ledger.fail(NOW, failed(false, Some(i64::MAX)), MINUTE, 0.5);
        assert_eq!(ledger.next_attempt, Some(NOW + MAX_RETRY_AFTER));
        ledger.succeed(NOW, NOW + 90 * DAY, MINUTE);
        assert_eq!((ledger.next_attempt, ledger.failures), (Some(NOW + DAY), 0));
        ledger.succeed(NOW, NOW + 30, Duration::from_secs(1));
        assert_eq!(ledger.blocked_until(NOW), Some(NOW + 10));
        ledger.succeed(NOW, NOW + 30, MINUTE);
        assert_eq!(ledger.blocked_until(NOW), Some(NOW + 60));
        assert!(ledger.issued_lately(NOW + DAY) && !ledger.issued_lately(NOW + DAY + 1));
    }

    #[test]
    fn history_entries_in_the_future_are_ignored() {
        let mut ledger = OrderHistory::default();
        for _ in 0..4 {
            ledger.fail(NOW + 80 * DAY, failed(true, None), MINUTE, 0.5);
        }
        assert!(ledger.blocked_until(NOW + 80 * DAY).is_some());
        assert_eq!(ledger.blocked_until(NOW), None);
        ledger.fail(
            NOW + 80 * DAY,
            failed(false, Some(NOW + 81 * DAY)),
            MINUTE,
            0.5,
        );
        assert_eq!(ledger.blocked_until(NOW), None);
        ledger.succeed(NOW + 80 * DAY, NOW + 170 * DAY, MINUTE);
        assert_eq!(ledger.budget_exhausted_until(NOW), None);
        assert!(!ledger.issued_lately(NOW));
    }

    #[test]
    fn renewal_is_at_two_thirds_or_a_little_before() {
        let life = 90 * DAY;
        let mut seen = std::collections::BTreeSet::new();
        for n in 0..100 {
            let at = renewal(NOW, NOW + life, &format!("host-{n}.test")) - NOW;
            assert!(at <= life * 2 / 3 && at >= life * 2 / 3 - life / 24, "{at}");
            seen.insert(at);
        }
        assert!(seen.len() > 80, "{seen:?}");
        let again = renewal(NOW, NOW + life, "host-1.test");
        assert_eq!(again, renewal(NOW, NOW + life, "host-1.test"));
        assert!((18..=20).contains(&(renewal(NOW, NOW + 30, "a.test") - NOW)));
    }
}
