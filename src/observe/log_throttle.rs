//! Throttling of log lines whose frequency a client or backend controls.

use std::{
    collections::HashMap,
    hash::Hash,
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

/// A [`LogThrottle`] for each key, such as a backend and the reason of its failure: frequent lines of one key do not
/// hide those of another.
#[derive(Debug)]
pub(crate) struct KeyedLogThrottle<K> {
    /// At most [`MAX_KEYS`].
    states: Mutex<HashMap<K, ThrottleState>>,
    /// Shared by the keys that find the table full.
    rest: LogThrottle,
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
        LogThrottle {
            state: Mutex::new(ThrottleState::NEW),
        }
    }

    /// Returns the number of lines suppressed since the last one if a line may be written now, otherwise `None`.
    pub(crate) fn allow(&self) -> Option<u64> {
        // The lock is held for plain assignments only, so a poisoned state is consistent.
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        state.allow(Instant::now())
    }
}

impl Default for LogThrottle {
    fn default() -> Self {
        Self::new()
    }
}

// === impl KeyedLogThrottle ===

impl<K: Eq + Hash> KeyedLogThrottle<K> {
    /// Creates a throttle that allows the first line of each key.
    pub(crate) fn new() -> Self {
        KeyedLogThrottle {
            states: Mutex::default(),
            rest: LogThrottle::new(),
        }
    }

    /// Returns the number of lines of `key` that were suppressed since the last one; `None`: none may be written now.
    pub(crate) fn allow(&self, key: K) -> Option<u64> {
        let now = Instant::now();
        let mut states = self.states.lock().unwrap_or_else(PoisonError::into_inner);
        if states.len() >= MAX_KEYS && !states.contains_key(&key) {
            states.retain(|_, state| !state.is_unused(now));
            if states.len() >= MAX_KEYS {
                return self.rest.allow();
            }
        }
        states.entry(key).or_insert(ThrottleState::NEW).allow(now)
    }
}

// === impl ThrottleState ===

impl ThrottleState {
    const NEW: ThrottleState = ThrottleState {
        last_allowed: None,
        suppressed: 0,
    };

    fn allow(&mut self, now: Instant) -> Option<u64> {
        if self
            .last_allowed
            .is_some_and(|last| now - last < MIN_INTERVAL)
        {
            self.suppressed += 1;
            return None;
        }
        self.last_allowed = Some(now);
        Some(std::mem::take(&mut self.suppressed))
    }

    /// Returns whether the state is the same as a new one.
    fn is_unused(&self, now: Instant) -> bool {
        let is_allowed = self
            .last_allowed
            .is_none_or(|last| now - last >= MIN_INTERVAL);
        is_allowed && self.suppressed == 0
    }
}

/// Far more than the backends of most configurations and their reasons.
const MAX_KEYS: usize = 1024;

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

    #[tokio::test(start_paused = true)]
    async fn keys_are_throttled_separately_and_bounded() {
        let throttle = KeyedLogThrottle::new();
        assert_eq!(throttle.allow(0), Some(0));
        assert_eq!(throttle.allow(0), None);
        for key in 1..MAX_KEYS {
            assert_eq!(throttle.allow(key), Some(0));
        }
        // The table is full: further keys share one throttle.
        assert_eq!(throttle.allow(MAX_KEYS), Some(0));
        assert_eq!(throttle.allow(MAX_KEYS + 1), None);
        tokio::time::advance(MIN_INTERVAL).await;
        assert_eq!(throttle.allow(MAX_KEYS + 2), Some(0));
        assert_eq!(throttle.states.lock().unwrap().len(), 2);
        assert_eq!(throttle.allow(0), Some(1));
    }
}
