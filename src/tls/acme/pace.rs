//! When to ask a CA, and when not to: pure arithmetic over what happened. Times are seconds since 1970.

use std::time::Duration;

use serde::{Deserialize, Serialize};

/// What happened to a name so far; kept beside its certificate, so that a restart does not begin anew.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub(super) struct OrderHistory {
    /// Certificates issued in the last day.
    pub(super) issued: Vec<i64>,
    /// Validations that failed in the last hour.
    pub(super) invalid: Vec<i64>,
    /// Failures since the last success, of any kind.
    pub(super) failures: u32,
    /// Not before this time, unless somebody asks for it.
    pub(super) next_attempt: Option<i64>,
    /// The CA itself does not want to be asked before.
    pub(super) held_until: Option<i64>,
    /// What the CA said last, in its own words.
    pub(super) last_error: Option<String>,
}

// === impl OrderHistory ===

impl OrderHistory {
    /// A certificate came, which is good until `not_after`.
    pub(super) fn succeed(&mut self, now: i64, not_after: i64, first: Duration) {
        self.forget(now);
        self.issued.push(now);
        self.failures = 0;
        // Whatever its dates say of renewal: a CA whose certificates are due when they come is not asked in a loop.
        let wait = ((not_after - now) / 3).min(DAY).max(seconds(first));
        self.next_attempt = Some(now + wait);
        self.held_until = None;
        self.last_error = None;
    }

    /// None came. `first` is the wait after the first failure in a row, `chance` is from 0 to 1, and `hold` is what the
    /// CA wants at least.
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

    /// Before when nothing is ordered. A time that no wait of ours can lead to was noted by a clock that was wrong.
    pub(super) fn blocked_until(&self, now: i64) -> Option<i64> {
        let hold = self.held_until.filter(|at| *at <= now + MAX_RETRY_AFTER);
        let next = self.next_attempt.filter(|at| *at <= now + DAY);
        next.max(hold).max(self.budget_exhausted_until(now))
    }

    /// Until when the budget is spent; `None` while it is not. Let's Encrypt lets five validations an hour fail.
    pub(super) fn budget_exhausted_until(&self, now: i64) -> Option<i64> {
        let recent = |at: &&i64| (now - HOUR..=now).contains(*at);
        let failed = self.invalid.iter().filter(recent).count();
        let oldest = self.invalid.iter().filter(recent).min()?;
        (failed >= INVALID_AN_HOUR).then_some(oldest + HOUR)
    }

    /// Whether a certificate was issued within a day: another one must have a reason.
    pub(super) fn issued_lately(&self, now: i64) -> bool {
        self.issued.iter().any(|at| (now - DAY..=now).contains(at))
    }

    /// Also forgets what lies in the future: a clock was wrong then, or is now.
    fn forget(&mut self, now: i64) {
        self.issued.retain(|at| (now - DAY..=now).contains(at));
        self.invalid.retain(|at| (now - HOUR..=now).contains(at));
    }
}

/// Why no certificate came.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct FailureRecord {
    /// In the CA's own words, if it had any.
    pub(super) text: String,
    /// The CA looked, and did not find its challenge answered.
    pub(super) invalid: bool,
    /// The CA does not want to be asked before.
    pub(super) hold: Option<i64>,
}

/// When to renew: after two thirds of the lifetime, or up to a twenty-fourth of it earlier, by `name`, so that hosts which
/// got their certificates together do not come back together.
pub(super) fn renewal(not_before: i64, not_after: i64, name: &str) -> i64 {
    let life = (not_after - not_before).max(0);
    // The same after every restart. FNV-1a: it need only be spread out.
    let mix = |hash: u64, byte: u8| (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3);
    let spread = name.bytes().fold(0xcbf2_9ce4_8422_2325, mix) >> 32;
    let early = i64::try_from(spread % 1000).unwrap_or(0) * (life / 24) / 1000;
    not_before + life * 2 / 3 - early
}

/// `first`, doubling with each failure up to six hours, ± 20 %.
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
/// A CA that wants more is not believed.
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
        // A CA that is down costs nothing there.
        let mut ledger = OrderHistory::default();
        for n in 0..100 {
            ledger.fail(NOW + n, failed(false, None), MINUTE, 0.5);
        }
        assert_eq!(ledger.budget_exhausted_until(NOW + 100), None);
        assert_eq!(ledger.failures, 100);
    }

    #[test]
    fn what_the_ca_asks_for_is_kept_unless_it_is_mad() {
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
    fn what_lies_in_the_future_counts_for_nothing() {
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
