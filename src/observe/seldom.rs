//! Fewer lines for what others can make happen as often as they like.

use std::{
    sync::{Mutex, PoisonError},
    time::Duration,
};
use tokio::time::Instant;

/// Lets one line a second pass; one `static` per kind of line.
///
/// ```
/// # use lockgate::observe::LogThrottle;
/// static REFUSED_DIALS: LogThrottle = LogThrottle::new();
/// if let Some(suppressed) = REFUSED_DIALS.allow() {
///     tracing::warn!(suppressed, "a backend refused the connection");
/// }
/// ```
#[derive(Debug)]
pub struct LogThrottle {
    since: Mutex<ThrottleState>,
}

#[derive(Debug)]
struct ThrottleState {
    passed: Option<Instant>,
    suppressed: u64,
}

// === impl LogThrottle ===

impl LogThrottle {
    /// The first line will pass.
    pub const fn new() -> Self {
        let since = ThrottleState {
            passed: None,
            suppressed: 0,
        };
        LogThrottle {
            since: Mutex::new(since),
        }
    }

    /// `Some` if a line may be written now, with the number of those that were not since the last one.
    pub fn allow(&self) -> Option<u64> {
        let now = Instant::now();
        // Two plain fields: a panic elsewhere cannot leave them half written.
        let mut since = self.since.lock().unwrap_or_else(PoisonError::into_inner);
        if since
            .passed
            .is_some_and(|passed| now - passed < MIN_INTERVAL)
        {
            since.suppressed += 1;
            return None;
        }
        since.passed = Some(now);
        Some(std::mem::take(&mut since.suppressed))
    }
}

impl Default for LogThrottle {
    fn default() -> Self {
        Self::new()
    }
}

/// Slow enough to read, quick enough to notice.
const MIN_INTERVAL: Duration = Duration::from_secs(1);

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn one_line_a_second_and_the_number_of_the_others() {
        let seldom = LogThrottle::new();
        assert_eq!(seldom.allow(), Some(0));
        for _ in 0..5 {
            assert_eq!(seldom.allow(), None);
        }
        tokio::time::advance(MIN_INTERVAL - Duration::from_millis(1)).await;
        assert_eq!(seldom.allow(), None);
        tokio::time::advance(Duration::from_millis(1)).await;
        assert_eq!(seldom.allow(), Some(6));
        assert_eq!(seldom.allow(), None);
        tokio::time::advance(MIN_INTERVAL).await;
        assert_eq!(seldom.allow(), Some(1));
    }
}
