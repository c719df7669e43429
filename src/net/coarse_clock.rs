//! The kernel's coarse monotonic clock, for times that are stored in an atomic number.

use nix::time::{ClockId, clock_gettime};
use std::time::Duration;

/// A time in milliseconds plus 1, so that 0 can stand for no time. It is read with fewer instructions than `Instant`
/// and is up to 10 ms late.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct CoarseInstant(pub(crate) u64);

// === impl CoarseInstant ===

impl CoarseInstant {
    pub(crate) fn now() -> Self {
        // Linux has this clock since 2.6.32.
        let now = clock_gettime(ClockId::CLOCK_MONOTONIC_COARSE);
        let millis = now.map_or(0, |now| now.tv_sec() * 1000 + now.tv_nsec() / 1_000_000);
        CoarseInstant(u64::try_from(millis).unwrap_or_default() + 1)
    }

    /// Returns the time since `earlier`; zero if that is later.
    pub(crate) fn since(self, earlier: CoarseInstant) -> Duration {
        Duration::from_millis(self.0.saturating_sub(earlier.0))
    }
}
