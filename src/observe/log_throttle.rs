//! Throttling of log lines whose frequency a client or backend controls.

use std::{
    sync::{Mutex, PoisonError},
    time::Duration,
};
use tokio::time::Instant;

/// A limit of one log line per second; one `static` per kind of line. A line is written if [`LogThrottle::allow`]
/// returns the number of lines that were suppressed since the last one.
#[derive(Debug)]
pub(crate) struct LogThrottle {
    state: Mutex<ThrottleState>,
}

#[derive(Debug)]
struct ThrottleState {
    last_allowed: Option<Instant>,
    suppressed: u64,
}

// === impl LogThrottle ===

impl LogThrottle {
    /// Creates a throttle that allows the first line.
    pub(crate) const fn new() -> Self {
        let state = ThrottleState {
            last_allowed: None,
            suppressed: 0,
        };
        LogThrottle {
            state: Mutex::new(state),
        }
    }

    /// Returns the number of lines suppressed since the last one if a line may be written now, otherwise `None`.
    pub(crate) fn allow(&self) -> Option<u64> {
        let now = Instant::now();
        // The lock is held for plain assignments only, so a poisoned state is consistent.
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        if state
            .last_allowed
            .is_some_and(|last| now - last < MIN_INTERVAL)
        {
            state.suppressed += 1;
            return None;
        }
        state.last_allowed = Some(now);
        Some(std::mem::take(&mut state.suppressed))
    }
}

impl Default for LogThrottle {
    fn default() -> Self {
        Self::new()
    }
}

/// Long enough to keep the log readable, short enough to show a problem at once.
const MIN_INTERVAL: Duration = Duration::from_secs(1);

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn one_line_per_second_reports_the_suppressed_count() {
        let throttle = LogThrottle::new();
        assert_eq!(throttle.allow(), Some(0));
        for _ in 0..5 {
            assert_eq!(throttle.allow(), None);
        }
        tokio::time::advance(MIN_INTERVAL - Duration::from_millis(1)).await;
        assert_eq!(throttle.allow(), None);
        tokio::time::advance(Duration::from_millis(1)).await;
        assert_eq!(throttle.allow(), Some(6));
        assert_eq!(throttle.allow(), None);
        tokio::time::advance(MIN_INTERVAL).await;
        assert_eq!(throttle.allow(), Some(1));
    }
}
