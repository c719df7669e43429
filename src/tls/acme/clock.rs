//! The time of the machine's clock, corrected by the CA's. Otherwise a clock that is months off would cause renewals in
//! a loop, or let a certificate expire.

use std::sync::atomic::{AtomicI64, Ordering};
use std::time::{SystemTime, UNIX_EPOCH};

use bytes::Bytes;
use http::{Request, header};
use tracing::{error, info};

use super::failure::AcmeError;
use super::web::HttpsClient;
use crate::observe::ErrorChain;

#[derive(Debug, Default)]
pub(super) struct CaClock {
    /// The seconds by which the CA's clock is ahead of this machine's; 0 while they agree.
    offset_seconds: AtomicI64,
}

// === impl CaClock ===

impl CaClock {
    /// Returns the corrected time in seconds since 1970.
    pub(super) fn now(&self) -> i64 {
        unix_seconds(SystemTime::now()) + self.offset_seconds.load(Ordering::Relaxed)
    }

    /// Converts a time by the CA's clock to the time on this machine's clock.
    pub(super) fn to_local(&self, time: i64) -> i64 {
        time - self.offset_seconds.load(Ordering::Relaxed)
    }

    /// Returns a description of the difference between the clocks; `None` while they agree.
    pub(super) fn warning(&self) -> Option<String> {
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
    pub(super) async fn query(
        &self,
        https: &HttpsClient,
        directory: &str,
    ) -> Result<(), AcmeError> {
        let request = Request::get(directory).body(Bytes::new());
        let request = request.map_err(|error| AcmeError::Unreachable(error.to_string()))?;
        let response = https.send(request).await;
        let response =
            response.map_err(|error| AcmeError::Unreachable(ErrorChain(&error).to_string()))?;
        if !response.status().is_success() {
            let body = String::from_utf8_lossy(response.body());
            let failure = AcmeError::from_response(response.status().as_u16(), &body, self.now());
            return Err(failure.not_before(https.retry_after(), self.now()));
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
pub(super) fn unix_seconds(time: SystemTime) -> i64 {
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

/// Far more than a clock drifts in a year without NTP, and far less than a certificate's lifetime.
const MAX_SKEW: i64 = 10 * 60;

#[cfg(test)]
mod tests {
    use super::*;

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
