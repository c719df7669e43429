//! Selection of the next member of a pool.

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
    /// Returns a lease on free capacity, regardless of the queue.
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

    /// Returns `tried` and the members in slow start that are skipped this time; `None` if none is skipped.
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
            // A request with an affinity is not new work.
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

    /// Returns the `id_hash` of the only member that can serve this request, unless that was tried.
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
        // A selected member without capacity has filled up in the meantime: each costs at most one round.
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
    // A member that DNS is yet to return may have capacity.
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

/// The scale of probabilities.
const PROBABILITY_SCALE: u64 = 1 << 20;
