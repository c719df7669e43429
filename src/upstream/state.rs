//! The state of a backend as one word, derived from its health, its drain and its slow start.

use super::{Backend, Condition};
use std::time::Duration;
use tokio::time::Instant;

/// The state of a backend in a pool, as reported by status, log and metrics.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum BackendState {
    /// Accepts new sessions and requests.
    Up,
    /// New or recovered: receives a growing share of new sessions and requests for the pool's `slow_start`.
    Warming,
    /// Accepts no new sessions or requests, as ordered by the operator.
    Draining,
    /// Health checks fail.
    Down,
    /// Sessions or requests failed; the backend is not used for a limited time.
    Ejected,
    /// Not in DNS any longer: accepts no new sessions or requests.
    Vanished,
}

// === impl BackendState ===

impl BackendState {
    /// All states.
    pub const ALL: [BackendState; 6] = [
        BackendState::Up,
        BackendState::Warming,
        BackendState::Draining,
        BackendState::Down,
        BackendState::Ejected,
        BackendState::Vanished,
    ];

    /// Returns the word of a closed set.
    pub fn as_str(self) -> &'static str {
        match self {
            BackendState::Up => Condition::Up.as_str(),
            BackendState::Warming => "warming",
            BackendState::Draining => "draining",
            BackendState::Down => Condition::Down.as_str(),
            BackendState::Ejected => Condition::Ejected.as_str(),
            BackendState::Vanished => "vanished",
        }
    }
}

// === impl Backend ===

impl Backend {
    /// Returns the state of a backend that is configured or in DNS. A drain takes precedence over health: it applies in
    /// both conditions.
    pub(super) fn state(&self, now: Instant, slow_start: Duration) -> BackendState {
        match self.health().condition().0 {
            _ if self.is_draining() => BackendState::Draining,
            Condition::Up if self.slow_start_factor(now, slow_start).is_some() => {
                BackendState::Warming
            }
            Condition::Up => BackendState::Up,
            Condition::Down => BackendState::Down,
            Condition::Ejected => BackendState::Ejected,
        }
    }
}
