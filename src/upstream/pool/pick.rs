//! Who of a pool's backends is next, at this moment.

use super::{Pool, Unavailable};
use crate::{
    config,
    upstream::{
        Backend, Lease,
        balance::{BalanceKey, Eligible},
        entry::Member,
        members::PoolMembers,
    },
};
use std::sync::Arc;
use tokio::time::Instant;

// === impl Pool ===

impl Pool {
    /// A place that there is now, whoever waits.
    pub(super) fn pick(
        &self,
        key: BalanceKey,
        tried: &[Arc<Backend>],
    ) -> Result<Lease, Unavailable> {
        let members = self.members.load();
        if let Some(cold) = self.excluded(&members, key, tried)
            && let Ok(lease) = self.pick_among(&members, key, &cold)
        {
            return Ok(lease);
        }
        self.pick_among(&members, key, tried)
    }

    /// `tried`, and those that are getting warm and are left out this time; `None` where there are none of these.
    fn excluded(
        &self,
        members: &PoolMembers,
        key: BalanceKey,
        tried: &[Arc<Backend>],
    ) -> Option<Vec<Arc<Backend>>> {
        if self.slow_start.is_zero() {
            return None;
        }
        let now = Instant::now();
        let is_cold = |entry: &&Arc<Member>| {
            // Who belongs there is not new.
            let is_own = key.bound().is_some_and(|bound| bound.seed == entry.id_hash);
            let warmth = entry.backend.warmth(now, self.slow_start);
            let is_left = |warmth| {
                self.rng.below(PROBABILITY_SCALE) as f64 >= warmth * PROBABILITY_SCALE as f64
            };
            !is_own && warmth.is_some_and(is_left)
        };
        let cold = members.entries().iter().filter(is_cold);
        let cold: Vec<_> = cold.map(|entry| entry.backend.clone()).collect();
        (!cold.is_empty()).then(|| [tried, &cold].concat())
    }

    /// The seed of the only backend that can serve this request, unless that was tried.
    pub(super) fn only(&self, key: BalanceKey, tried: &[Arc<Backend>]) -> Option<u64> {
        let bound = key.bound().filter(|bound| bound.only)?;
        let members = self.members.load();
        let mut entries = members.entries().iter();
        let own = entries.find(|entry| entry.id_hash == bound.seed)?;
        let was_tried = tried.iter().any(|one| Arc::ptr_eq(one, &own.backend));
        (!was_tried).then_some(bound.seed)
    }

    fn pick_among(
        &self,
        members: &PoolMembers,
        key: BalanceKey,
        tried: &[Arc<Backend>],
    ) -> Result<Lease, Unavailable> {
        let entries = members.entries();
        let candidates = Eligible {
            entries,
            tried,
            unwell: self.all_down == config::AllDown::Try && !serving(entries).any(Member::is_up),
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

fn why(members: &PoolMembers, candidates: Eligible<'_>, may_wait: bool) -> Unavailable {
    let mut serving = serving(candidates.entries);
    let is_wanted = |entry: &&Member| candidates.unwell || entry.is_up();
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

pub(super) fn serving(entries: &[Arc<Member>]) -> impl Iterator<Item = &Member> + Clone {
    let entries = entries.iter().map(|entry| &**entry);
    entries.filter(|entry| !entry.backend.is_draining())
}

/// What a chance is measured in.
const PROBABILITY_SCALE: u64 = 1 << 20;
