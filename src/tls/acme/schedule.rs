//! When to order: pure arithmetic over the order history, and the clock that it uses. Times are seconds since 1970.

use crate::{
    net::web_client::WebClient,
    tls::acme::error::{AcmeError, FailureRecord, TransportError},
};
use bytes::Bytes;
use http::{Request, header};
use serde::{Deserialize, Serialize};
use std::{
    sync::atomic::{AtomicI64, Ordering},
    time::{Duration, SystemTime, UNIX_EPOCH},
};
use tracing::{error, info};

/// The order history of a name. It is stored next to the certificate, so that limits and delays survive a restart.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub(crate) struct OrderHistory {
    /// Certificates issued in the last day.
    pub(crate) issued: Vec<i64>,
    /// Validations that failed in the last hour.
    pub(crate) invalid: Vec<i64>,
    /// Failures since the last success, of any kind.
    pub(crate) failures: u32,
    /// The earliest time of the next order, unless an operator requests one.
    pub(crate) next_attempt: Option<i64>,
    /// The earliest time of the next order according to the CA.
    pub(crate) held_until: Option<i64>,
    /// The time at which `next_attempt` and `held_until` were recorded; `None` in histories of older versions.
    pub(crate) recorded_at: Option<i64>,
    /// The text of the CA's last error.
    pub(crate) last_error: Option<String>,
}

// === impl OrderHistory ===

impl OrderHistory {
    /// Records a certificate that is valid until `not_after`.
    pub(crate) fn succeed(&mut self, now: i64, not_after: i64, initial_backoff: Duration) {
        self.prune(now);
        self.issued.push(now);
        self.failures = 0;
        // Independent of the renewal time: certificates that are due at once must not cause orders in a loop.
        let wait = ((not_after - now) / 3)
            .min(DAY)
            .max(whole_seconds(initial_backoff));
        self.next_attempt = Some(now + wait);
        self.held_until = None;
        self.recorded_at = Some(now);
        self.last_error = None;
    }

    /// Records a failure. `initial_backoff` is the delay after the first failure in a row, and `jitter` is from 0 to 1.
    pub(crate) fn fail(
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
        self.recorded_at = Some(now);
        self.last_error = Some(failure.text);
    }

    /// Returns the time before which no certificate is ordered. A time further away than the longest delay that could
    /// have been recorded comes from a wrong clock and is ignored, like both times of a history recorded with a clock
    /// that was ahead of `now`. `initial_backoff` is that of [`OrderHistory::fail`].
    pub(crate) fn blocked_until(&self, now: i64, initial_backoff: Duration) -> Option<i64> {
        let is_recorded_later = self.recorded_at.is_some_and(|at| at > now + MAX_SKEW);
        let is_recent = |at: &i64| !is_recorded_later && *at <= now + MAX_RETRY_AFTER;
        let held_until = self.held_until.filter(is_recent);
        let longest = now + self.longest_delay(initial_backoff);
        // The CA's delay may be longer than the backoff; `held_until` is this delay.
        let is_possible = |at: &i64| !is_recorded_later && *at <= longest;
        let next = self.next_attempt.filter(is_possible);
        next.max(held_until).max(self.budget_exhausted_until(now))
    }

    /// Returns the longest delay that was possible after the last order, apart from the CA's own.
    fn longest_delay(&self, initial_backoff: Duration) -> i64 {
        match self.failures.checked_sub(1) {
            Some(earlier) => whole_seconds(backoff(initial_backoff, earlier, 1.0)),
            None => DAY.max(whole_seconds(initial_backoff)),
        }
    }

    /// Returns the time until which the budget of failed validations is exhausted; `None` if it is not. Let's Encrypt
    /// allows five failed validations per hour.
    pub(crate) fn budget_exhausted_until(&self, now: i64) -> Option<i64> {
        let recent = |at: &&i64| (now - HOUR..=now).contains(*at);
        let failed = self.invalid.iter().filter(recent).count();
        let oldest = self.invalid.iter().filter(recent).min()?;
        (failed >= MAX_INVALID_PER_HOUR).then_some(oldest + HOUR)
    }

    /// Returns true if a certificate was issued within the last day.
    pub(crate) fn issued_within_a_day(&self, now: i64) -> bool {
        self.issued.iter().any(|at| (now - DAY..=now).contains(at))
    }

    /// Drops old entries, and entries in the future, which come from a wrong clock.
    fn prune(&mut self, now: i64) {
        self.issued.retain(|at| (now - DAY..=now).contains(at));
        self.invalid.retain(|at| (now - HOUR..=now).contains(at));
    }
}

/// Returns the renewal time: after two thirds of the lifetime, or up to 1/24 of the lifetime earlier. The offset
/// depends on `name`, so that certificates issued together are not renewed together.
pub(crate) fn renewal(not_before: i64, not_after: i64, name: &str) -> i64 {
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

/// The time of the machine's clock, corrected by the CA's. Otherwise a clock that is months off would cause renewals in
/// a loop, or let a certificate expire.
#[derive(Debug, Default)]
pub(crate) struct CaClock {
    /// The seconds by which the CA's clock is ahead of this machine's; 0 while they agree.
    offset_seconds: AtomicI64,
}

// === impl CaClock ===

impl CaClock {
    /// Returns the corrected time in seconds since 1970.
    pub(crate) fn now(&self) -> i64 {
        unix_seconds(SystemTime::now()) + self.offset_seconds.load(Ordering::Relaxed)
    }

    /// Converts a time by the CA's clock to the time on this machine's clock.
    pub(crate) fn to_local(&self, time: i64) -> i64 {
        time - self.offset_seconds.load(Ordering::Relaxed)
    }

    /// Returns a description of the difference between the clocks; `None` while they agree.
    pub(crate) fn warning(&self) -> Option<String> {
        let offset = self.offset_seconds.load(Ordering::Relaxed);
        let direction = if offset > 0 { "behind" } else { "ahead of" };
        let text = || {
            format!(
                "this machine's clock is {} {direction} the CA's",
                format_span(offset)
            )
        };
        (offset != 0).then(text)
    }

    /// Requests the time from the CA, which also checks that the CA can be reached.
    pub(crate) async fn query(&self, https: &WebClient, directory: &str) -> Result<(), AcmeError> {
        let request = Request::get(directory).body(Bytes::new());
        let request =
            request.map_err(|error| AcmeError::Unreachable(TransportError::Url(error)))?;
        let response = https.send(request).await;
        let response = response.map_err(|error| AcmeError::Unreachable(error.into()))?;
        if !response.status().is_success() {
            let body = String::from_utf8_lossy(response.body());
            let failure = AcmeError::from_response(response.status().as_u16(), &body, self.now());
            return Err(failure.with_retry_after(https.retry_after(), self.now()));
        }
        // Without a Date the last known offset stays.
        let date = response.headers().get(header::DATE);
        let date = date.and_then(|date| httpdate::parse_http_date(date.to_str().ok()?).ok());
        if let Some(date) = date {
            self.compare(unix_seconds(date), unix_seconds(SystemTime::now()));
        }
        Ok(())
    }

    fn compare(&self, ca_time: i64, local_time: i64) {
        let offset = match ca_time - local_time {
            small if small.abs() <= MAX_SKEW => 0,
            large => large,
        };
        let before = self.offset_seconds.swap(offset, Ordering::Relaxed);
        match self.warning() {
            Some(warning) if before == 0 => {
                error!(%warning, "the clock of this machine is wrong; certificates are renewed by the CA's clock; set the clock (timedatectl)");
            }
            None if before != 0 => info!("the clock of this machine agrees with the CA's again"),
            _ => {}
        }
    }
}

/// Returns seconds since 1970; negative before.
fn unix_seconds(time: SystemTime) -> i64 {
    let whole_seconds = |duration: std::time::Duration| i64::try_from(duration.as_secs());
    match time.duration_since(UNIX_EPOCH) {
        Ok(since) => whole_seconds(since).unwrap_or(i64::MAX),
        Err(before) => -whole_seconds(before.duration()).unwrap_or(i64::MAX),
    }
}

fn format_span(seconds: i64) -> String {
    match seconds.unsigned_abs() {
        s if s >= 2 * 86_400 => format!("{} days", s / 86_400),
        s if s >= 2 * 3600 => format!("{} hours", s / 3600),
        s => format!("{} minutes", s / 60),
    }
}

/// One less than Let's Encrypt allows.
const MAX_INVALID_PER_HOUR: usize = 4;

const MAX_BACKOFF: Duration = Duration::from_secs(6 * 60 * 60);

const HOUR: i64 = 60 * 60;

const DAY: i64 = 24 * HOUR;

/// The maximum delay accepted from a CA.
const MAX_RETRY_AFTER: i64 = 7 * DAY;

/// Far more than a clock drifts in a year without NTP, and far less than a certificate's lifetime.
const MAX_SKEW: i64 = 10 * 60;

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
        assert_eq!(history.blocked_until(NOW, MINUTE), Some(NOW + 10));
        history.succeed(NOW, NOW + 30, MINUTE);
        assert_eq!(history.blocked_until(NOW, MINUTE), Some(NOW + 60));
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
        assert!(history.blocked_until(NOW + 80 * DAY, MINUTE).is_some());
        assert_eq!(history.blocked_until(NOW, MINUTE), None);
        history.fail(
            NOW + 80 * DAY,
            failed(false, Some(NOW + 81 * DAY)),
            MINUTE,
            0.5,
        );
        assert_eq!(history.blocked_until(NOW, MINUTE), None);
        history.succeed(NOW + 80 * DAY, NOW + 170 * DAY, MINUTE);
        assert_eq!(history.budget_exhausted_until(NOW), None);
        assert!(!history.issued_within_a_day(NOW));
    }

    /// The delay of `next_attempt` and `held_until` in seconds, the failures, and the offset of the clock at which they
    /// were recorded; and the expected delay.
    #[test]
    fn delays_recorded_with_a_wrong_clock_are_ignored() {
        type Row = (
            &'static str,
            Option<i64>,
            Option<i64>,
            u32,
            Option<i64>,
            Option<i64>,
        );
        let rows: &[Row] = &[
            ("first backoff", Some(72), None, 1, Some(0), Some(72)),
            ("beyond the first", Some(73), None, 1, Some(0), None),
            ("third backoff", Some(288), None, 3, Some(0), Some(288)),
            ("beyond the third", Some(289), None, 3, Some(0), None),
            (
                "longest backoff",
                Some(25_920),
                None,
                60,
                None,
                Some(25_920),
            ),
            ("beyond the longest", Some(25_921), None, 60, None, None),
            ("wait after a success", Some(DAY), None, 0, None, Some(DAY)),
            ("beyond it", Some(DAY + 1), None, 0, None, None),
            ("delay of the CA", Some(DAY), Some(DAY), 1, None, Some(DAY)),
            (
                "longest delay of the CA",
                Some(7 * DAY),
                Some(7 * DAY),
                1,
                Some(0),
                Some(7 * DAY),
            ),
            ("beyond it", Some(8 * DAY), Some(8 * DAY), 1, None, None),
            (
                "delay of the CA, restarted",
                Some(DAY),
                Some(DAY),
                0,
                None,
                Some(DAY),
            ),
            (
                "clock 12 h ahead",
                Some(43_260),
                None,
                1,
                Some(43_200),
                None,
            ),
            (
                "clock 12 h ahead, older version",
                Some(43_260),
                None,
                1,
                None,
                None,
            ),
            (
                "clock 1 h ahead, backoff of 5 h",
                Some(21_600),
                None,
                60,
                Some(3600),
                None,
            ),
            (
                "clock 12 h ahead, delay of the CA",
                Some(46_800),
                Some(46_800),
                1,
                Some(43_200),
                None,
            ),
            (
                "clock set back by 10 s",
                Some(60),
                None,
                1,
                Some(10),
                Some(60),
            ),
            (
                "clock 12 h behind",
                Some(60 - 43_200),
                None,
                1,
                Some(-43_200),
                Some(60 - 43_200),
            ),
        ];
        for (case, next_attempt, held_until, failures, recorded, expected) in rows {
            let at = |delay: &Option<i64>| delay.map(|delay| NOW + delay);
            let history = OrderHistory {
                failures: *failures,
                next_attempt: at(next_attempt),
                held_until: at(held_until),
                recorded_at: at(recorded),
                ..OrderHistory::default()
            };
            let blocked_until = history.blocked_until(NOW, MINUTE);
            assert_eq!(blocked_until, at(expected), "{case}");
        }
    }

    #[test]
    fn clock_corrected_after_a_failure_delays_no_order() {
        let (retry, ahead) = (Duration::from_secs(2), NOW + 12 * HOUR);
        let mut history = OrderHistory::default();
        history.fail(ahead, failed(false, None), retry, 1.0);
        assert_eq!(history.blocked_until(ahead, retry), Some(ahead + 2));
        assert_eq!(history.blocked_until(NOW, retry), None);
        history.fail(NOW, failed(false, None), retry, 0.5);
        assert_eq!(history.blocked_until(NOW, retry), Some(NOW + 4));
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

    #[test]
    fn wrong_clock_is_corrected_and_reported() {
        let clock = CaClock::default();
        let now = unix_seconds(SystemTime::now());
        clock.compare(now + 60, now);
        assert_eq!(clock.warning(), None);
        clock.compare(now - 80 * 86_400, now);
        assert!((clock.now() - (now - 80 * 86_400)).abs() <= 5);
        assert_eq!(clock.to_local(now - 80 * 86_400), now);
        let warning = clock.warning().unwrap();
        assert_eq!(warning, "this machine's clock is 80 days ahead of the CA's");
        clock.compare(now + 3 * 3600, now);
        assert!(clock.warning().unwrap().contains("3 hours behind"));
        clock.compare(now, now);
        assert_eq!(clock.warning(), None);
    }
}
