//! Whether a pool has more backends than before that can take sessions, and whether it has come to rest since.

use crate::upstream::LoadShare;
use std::{collections::HashSet, sync::Arc, time::Duration};
use tokio::time::Instant;

/// What one pool was seen to have.
#[derive(Debug, Default)]
pub(super) struct GrowthDetector {
    /// One that was away between two looks is another.
    seen: HashSet<(Arc<str>, u64)>,
    /// It is to be evened out, and since when it rests.
    rests: Option<Instant>,
}

// === impl GrowthDetector ===

impl GrowthDetector {
    /// To the first look all is new: a pool that begins to want it may be uneven.
    pub(super) fn observe(&mut self, standings: &[LoadShare], now: Instant) {
        let names = standings
            .iter()
            .map(|it| (it.backend.clone(), it.generation));
        let before = std::mem::replace(&mut self.seen, names.collect());
        let has_grown = !self.seen.is_subset(&before);
        // A cold one does not get all that it has room for: they would come back to where they were.
        let is_warming = standings.iter().any(|it| it.warming);
        if has_grown || is_warming && self.rests.is_some() {
            self.begin(now);
        }
    }

    /// It is to be evened out, whether it has grown or not.
    pub(super) fn begin(&mut self, now: Instant) {
        self.rests = Some(now);
    }

    /// Whether it is to be evened out and has come to rest; that is said once.
    pub(super) fn is_settled(&mut self, now: Instant) -> bool {
        let has_rested = |since: &Instant| now.saturating_duration_since(*since) >= SETTLES;
        self.rests.take_if(|since| has_rested(since)).is_some()
    }

    /// It was not left alone until now.
    pub(super) fn reset(&mut self, now: Instant) {
        self.rests = self.rests.map(|_| now);
    }
}

/// Time for a first check, and for handshakes that were under way.
const SETTLES: Duration = Duration::from_secs(2);

#[cfg(test)]
mod tests {
    use super::*;

    fn standings(names: &str, warming: bool) -> Vec<LoadShare> {
        let standing = |name: char| LoadShare {
            backend: name.to_string().into(),
            generation: 0,
            leases: 0,
            share: 0,
            warming,
        };
        names.chars().map(standing).collect()
    }

    /// Looks once a second at what there is; capitals are warming. When it had settled.
    fn settled(looks: &[&str]) -> Vec<usize> {
        let (mut growth, start) = (GrowthDetector::default(), Instant::now());
        let mut settled = vec![];
        for (second, names) in looks.iter().enumerate() {
            let now = start + Duration::from_secs(second as u64);
            let warming = names.chars().any(char::is_uppercase);
            growth.observe(&standings(&names.to_lowercase(), warming), now);
            if growth.is_settled(now) {
                settled.push(second);
            }
        }
        settled
    }

    #[test]
    fn it_settles_two_seconds_after_each_growth() {
        assert_eq!(settled(&["a", "a", "a", "a", "a", "a"]), [2]);
        assert_eq!(settled(&["a", "a", "a", "ab", "ab", "ab", "ab"]), [2, 5]);
        // Fewer are no growth; who comes back is.
        let looks = ["ab", "ab", "ab", "a", "a", "a", "ab", "ab", "ab", "ab"];
        assert_eq!(settled(&looks), [2, 8]);
        // One in the place of another.
        assert_eq!(settled(&["a", "a", "a", "b", "b", "b", "b"]), [2, 5]);
        assert_eq!(settled(&["a", "ab", "abc", "abc", "abc", "abc"]), [4]);
        assert_eq!(settled(&["", "", "", ""]), Vec::<usize>::new());
    }

    #[test]
    fn who_was_away_between_two_looks_has_come_back() {
        let (mut growth, start) = (GrowthDetector::default(), Instant::now());
        let at = |second| start + Duration::from_secs(second);
        let mut both = standings("ab", false);
        growth.observe(&both, at(0));
        assert!(growth.is_settled(at(2)));
        both[1].generation = 1;
        growth.observe(&both, at(3));
        assert!(!growth.is_settled(at(4)) && growth.is_settled(at(5)));
    }

    #[test]
    fn whoever_is_warming_is_waited_for() {
        let looks = ["a", "a", "a", "AB", "AB", "AB", "AB", "ab", "ab", "ab"];
        assert_eq!(settled(&looks), [2, 8]);
        // Who is warming in a pool that has not grown is no reason.
        assert_eq!(settled(&["a", "a", "a", "A", "A", "A", "a", "a", "a"]), [2]);
    }

    #[test]
    fn growth_meanwhile_settles_afterwards() {
        let (mut growth, start) = (GrowthDetector::default(), Instant::now());
        let at = |second| start + Duration::from_secs(second);
        growth.observe(&standings("a", false), at(0));
        assert!(growth.is_settled(at(2)));
        growth.reset(at(3));
        assert!(!growth.is_settled(at(9)));
        growth.observe(&standings("ab", false), at(10));
        growth.reset(at(15));
        assert!(!growth.is_settled(at(16)));
        assert!(growth.is_settled(at(17)));
    }
}
