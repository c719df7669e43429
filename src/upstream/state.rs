//! A backend's state in one word: what its health, its operator and its age make of it.

use super::{Backend, Condition};
use std::time::Duration;
use tokio::time::Instant;

/// How a backend stands in a pool, as status, log and metrics call it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum BackendState {
    /// Takes what is new.
    Up,
    /// New or back: takes a growing part of what is new, for as long as the pool's `slow_start`.
    Warming,
    /// Takes nothing new, by an operator's order.
    Draining,
    /// Checks fail.
    Down,
    /// Sessions or requests failed; it is left alone for a while.
    Ejected,
    /// DNS has it no more: it takes nothing new.
    Vanished,
}

// === impl BackendState ===

impl BackendState {
    /// All of them.
    pub const ALL: [BackendState; 6] = [
        BackendState::Up,
        BackendState::Warming,
        BackendState::Draining,
        BackendState::Down,
        BackendState::Ejected,
        BackendState::Vanished,
    ];

    /// A word of a closed set.
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
    /// Of one that DNS has, or that was written. An order goes before what checks say: it holds either way.
    pub(super) fn state(&self, now: Instant, slow_start: Duration) -> BackendState {
        match self.health().condition().0 {
            _ if self.is_draining() => BackendState::Draining,
            Condition::Up if self.warmth(now, slow_start).is_some() => BackendState::Warming,
            Condition::Up => BackendState::Up,
            Condition::Down => BackendState::Down,
            Condition::Ejected => BackendState::Ejected,
        }
    }
}
