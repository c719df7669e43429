//! Detects that a pool has gained a backend that can accept sessions, and that the pool has been stable since.

use crate::upstream::LoadShare;
use std::{collections::HashSet, sync::Arc, time::Duration};
use tokio::time::Instant;

/// The backends of one pool, as last observed, and whether rebalancing is due.
#[derive(Debug, Default)]
pub(super) struct GrowthDetector {
    /// Backends with the number of their slow start: a backend that was absent between two observations counts as new.
    seen: HashSet<(Arc<str>, u64)>,
    /// If rebalancing is due: the start of the settling time.
    stable_since: Option<Instant>,
}

// === impl GrowthDetector ===

impl GrowthDetector {
    /// Records the backends of the pool and schedules rebalancing if one is new. On the first observation every backend is
    /// new, because the pool may already be uneven.
    pub(super) fn observe(&mut self, shares: &[LoadShare], now: Instant) {
        let names = shares.iter().map(|it| (it.backend.clone(), it.generation));
        let before = std::mem::replace(&mut self.seen, names.collect());
        let has_grown = !self.seen.is_subset(&before);
        // A backend in slow start does not get its full share: closed sessions would return to the backends they came from.
        let is_warming = shares.iter().any(|it| it.warming);
        if has_grown || is_warming && self.stable_since.is_some() {
            self.schedule(now);
        }
    }

    /// Schedules rebalancing and restarts the settling time.
    pub(super) fn schedule(&mut self, now: Instant) {
        self.stable_since = Some(now);
    }

    /// Returns true once if rebalancing is due and the settling time has passed.
    pub(super) fn take_settled(&mut self, now: Instant) -> bool {
        let has_settled = |since: &Instant| now.saturating_duration_since(*since) >= SETTLING_TIME;
        self.stable_since
            .take_if(|since| has_settled(since))
            .is_some()
    }

    /// Restarts the settling time, if rebalancing is due.
    pub(super) fn reset(&mut self, now: Instant) {
        self.stable_since = self.stable_since.map(|_| now);
    }
}

/// Enough for a first health check and for handshakes in progress.
const SETTLING_TIME: Duration = Duration::from_secs(2);

#[cfg(test)]
mod tests {
    use super::*;

    fn shares(names: &str, warming: bool) -> Vec<LoadShare> {
        let share = |name: char| LoadShare {
            backend: name.to_string().into(),
            generation: 0,
            leases: 0,
            share: 0,
            warming,
        };
        names.chars().map(share).collect()
    }

    /// Observes one entry per second and returns the seconds at which the pool had settled. A capital letter: the pool is in
    /// slow start.
    fn settled(observations: &[&str]) -> Vec<usize> {
        let (mut growth, start) = (GrowthDetector::default(), Instant::now());
        let mut settled = vec![];
        for (second, names) in observations.iter().enumerate() {
            let now = start + Duration::from_secs(second as u64);
            let warming = names.chars().any(char::is_uppercase);
            growth.observe(&shares(&names.to_lowercase(), warming), now);
            if growth.take_settled(now) {
                settled.push(second);
            }
        }
        settled
    }

    #[test]
    fn pool_settles_two_seconds_after_each_growth() {
        assert_eq!(settled(&["a", "a", "a", "a", "a", "a"]), [2]);
        assert_eq!(settled(&["a", "a", "a", "ab", "ab", "ab", "ab"]), [2, 5]);
        // Losing a backend is no growth; its return is.
        let observations = ["ab", "ab", "ab", "a", "a", "a", "ab", "ab", "ab", "ab"];
        assert_eq!(settled(&observations), [2, 8]);
        // One backend replaces another.
        assert_eq!(settled(&["a", "a", "a", "b", "b", "b", "b"]), [2, 5]);
        assert_eq!(settled(&["a", "ab", "abc", "abc", "abc", "abc"]), [4]);
        assert_eq!(settled(&["", "", "", ""]), Vec::<usize>::new());
    }

    #[test]
    fn backend_with_a_new_slow_start_counts_as_growth() {
        let (mut growth, start) = (GrowthDetector::default(), Instant::now());
        let at = |second| start + Duration::from_secs(second);
        let mut both = shares("ab", false);
        growth.observe(&both, at(0));
        assert!(growth.take_settled(at(2)));
        both[1].generation = 1;
        growth.observe(&both, at(3));
        assert!(!growth.take_settled(at(4)) && growth.take_settled(at(5)));
    }

    #[test]
    fn slow_start_delays_settling() {
        let observations = ["a", "a", "a", "AB", "AB", "AB", "AB", "ab", "ab", "ab"];
        assert_eq!(settled(&observations), [2, 8]);
        // Slow start without growth schedules no rebalancing.
        assert_eq!(settled(&["a", "a", "a", "A", "A", "A", "a", "a", "a"]), [2]);
    }

    #[test]
    fn growth_during_rebalancing_settles_afterwards() {
        let (mut growth, start) = (GrowthDetector::default(), Instant::now());
        let at = |second| start + Duration::from_secs(second);
        growth.observe(&shares("a", false), at(0));
        assert!(growth.take_settled(at(2)));
        growth.reset(at(3));
        assert!(!growth.take_settled(at(9)));
        growth.observe(&shares("ab", false), at(10));
        growth.reset(at(15));
        assert!(!growth.take_settled(at(16)));
        assert!(growth.take_settled(at(17)));
    }
}
