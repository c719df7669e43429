//! Who of a pool's backends is next, at this moment.

use super::{Pool, Unavailable};
use crate::{
    config,
    upstream::{
        Backend, Lease,
        balance::{Candidates, Key},
        entry::Entry,
        members::Members,
    },
};
use std::sync::Arc;
use tokio::time::Instant;

// === impl Pool ===

impl Pool {
    /// A place that there is now, whoever waits.
    pub(super) fn pick(&self, key: Key, tried: &[Arc<Backend>]) -> Result<Lease, Unavailable> {
        let members = self.members.load();
        if let Some(cold) = self.passed_over(&members, key, tried)
            && let Ok(lease) = self.pick_among(&members, key, &cold)
        {
            return Ok(lease);
        }
        self.pick_among(&members, key, tried)
    }

    /// `tried`, and those that are getting warm and are left out this time; `None` where there are none of these.
    fn passed_over(
        &self,
        members: &Members,
        key: Key,
        tried: &[Arc<Backend>],
    ) -> Option<Vec<Arc<Backend>>> {
        if self.slow_start.is_zero() {
            return None;
        }
        let now = Instant::now();
        let is_cold = |entry: &&Arc<Entry>| {
            // Who belongs there is not new.
            let is_own = key.bound().is_some_and(|bound| bound.seed == entry.seed);
            let warmth = entry.backend.warmth(now, self.slow_start);
            let is_left = |warmth| self.dice.below(WHOLE) as f64 >= warmth * WHOLE as f64;
            !is_own && warmth.is_some_and(is_left)
        };
        let cold = members.entries().iter().filter(is_cold);
        let cold: Vec<_> = cold.map(|entry| entry.backend.clone()).collect();
        (!cold.is_empty()).then(|| [tried, &cold].concat())
    }

    /// The seed of the only backend that can serve this request, unless that was tried.
    pub(super) fn only(&self, key: Key, tried: &[Arc<Backend>]) -> Option<u64> {
        let bound = key.bound().filter(|bound| bound.only)?;
        let members = self.members.load();
        let mut entries = members.entries().iter();
        let own = entries.find(|entry| entry.seed == bound.seed)?;
        let was_tried = tried.iter().any(|one| Arc::ptr_eq(one, &own.backend));
        (!was_tried).then_some(bound.seed)
    }

    fn pick_among(
        &self,
        members: &Members,
        key: Key,
        tried: &[Arc<Backend>],
    ) -> Result<Lease, Unavailable> {
        let entries = members.entries();
        let candidates = Candidates {
            entries,
            tried,
            unwell: self.all_down == config::AllDown::Try && !serving(entries).any(Entry::is_up),
        };
        // Whoever was chosen and has no place has got full meanwhile: each costs at most one round.
        for _ in entries {
            let Some(entry) = self.balance.choose(candidates, key) else {
                break;
            };
            if let Some(lease) = Lease::take(entry) {
                self.balance.chosen(entry);
                return Ok(lease);
            }
        }
        Err(why(members, candidates, self.queue > 0))
    }
}

fn why(members: &Members, candidates: Candidates<'_>, may_wait: bool) -> Unavailable {
    let mut serving = serving(candidates.entries);
    let is_wanted = |entry: &&Entry| candidates.unwell || entry.is_up();
    let mut wanted = serving.clone().filter(is_wanted);
    // Who is yet to be found may have room.
    if may_wait && members.is_waiting() || wanted.clone().any(|entry| !candidates.was_tried(entry))
    {
        return Unavailable::Full;
    }
    match (wanted.next(), serving.next()) {
        (None, Some(_)) => Unavailable::Down,
        (None, None) if !candidates.entries.is_empty() => Unavailable::Draining,
        (None, None) if members.is_unsure() => Unavailable::Unresolved,
        _ => Unavailable::None,
    }
}

pub(super) fn serving(entries: &[Arc<Entry>]) -> impl Iterator<Item = &Entry> + Clone {
    let entries = entries.iter().map(|entry| &**entry);
    entries.filter(|entry| !entry.backend.is_draining())
}

/// What a chance is measured in.
const WHOLE: u64 = 1 << 20;
