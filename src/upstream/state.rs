//! A backend's state in one word: what its health, its operator and its age make of it.

use super::{Backend, Condition};
use std::time::Duration;
use tokio::time::Instant;

/// How a backend stands in a pool, as status, log and metrics call it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum State {
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

// === impl State ===

impl State {
    /// All of them.
    pub const ALL: [State; 6] = [
        State::Up,
        State::Warming,
        State::Draining,
        State::Down,
        State::Ejected,
        State::Vanished,
    ];

    /// A word of a closed set.
    pub fn as_str(self) -> &'static str {
        match self {
            State::Up => Condition::Up.as_str(),
            State::Warming => "warming",
            State::Draining => "draining",
            State::Down => Condition::Down.as_str(),
            State::Ejected => Condition::Ejected.as_str(),
            State::Vanished => "vanished",
        }
    }
}

// === impl Backend ===

impl Backend {
    /// Of one that DNS has, or that was written. An order goes before what checks say: it holds either way.
    pub(super) fn state(&self, now: Instant, slow_start: Duration) -> State {
        match self.health().condition().0 {
            _ if self.is_draining() => State::Draining,
            Condition::Up if self.warmth(now, slow_start).is_some() => State::Warming,
            Condition::Up => State::Up,
            Condition::Down => State::Down,
            Condition::Ejected => State::Ejected,
        }
    }
}
