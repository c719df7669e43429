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
    /// Returns a lease if a member has free capacity, regardless of the queue.
    pub(super) fn pick(
        &self,
        key: BalanceKey,
        tried: &[Arc<Backend>],
    ) -> Result<Lease, Unavailable> {
        let members = self.members.load();
        if let Some(excluded) = self.excluded(&members, key, tried)
            && let Ok(lease) = self.pick_among(&members, key, &excluded)
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
        let is_excluded = |member: &&Arc<Member>| {
            // A request with an affinity is not new work.
            let is_bound = key
                .bound()
                .is_some_and(|bound| bound.id_hash == member.id_hash);
            let factor = member.backend.slow_start_factor(now, self.slow_start);
            let is_skipped = |factor| {
                self.rng.below(PROBABILITY_SCALE) as f64 >= factor * PROBABILITY_SCALE as f64
            };
            !is_bound && factor.is_some_and(is_skipped)
        };
        let excluded = members.current().iter().filter(is_excluded);
        let excluded: Vec<_> = excluded.map(|member| member.backend.clone()).collect();
        (!excluded.is_empty()).then(|| [tried, &excluded].concat())
    }

    /// Returns the `id_hash` of the only member that can serve this request, unless that was tried.
    pub(super) fn only(&self, key: BalanceKey, tried: &[Arc<Backend>]) -> Option<u64> {
        let bound = key.bound().filter(|bound| bound.only)?;
        let members = self.members.load();
        let mut current = members.current().iter();
        let own = current.find(|member| member.id_hash == bound.id_hash)?;
        let was_tried = tried.iter().any(|one| Arc::ptr_eq(one, &own.backend));
        (!was_tried).then_some(bound.id_hash)
    }

    fn pick_among(
        &self,
        members: &PoolMembers,
        key: BalanceKey,
        tried: &[Arc<Backend>],
    ) -> Result<Lease, Unavailable> {
        let current = members.current();
        let candidates = Eligible {
            members: current,
            tried,
            include_unhealthy: self.all_down == config::AllDown::Try
                && !serving(current).any(Member::is_up),
        };
        // A selected member may have become full in the meantime, hence several attempts.
        for _ in current {
            let Some(member) = self.balance.choose(candidates, key) else {
                break;
            };
            if let Some(lease) = Lease::acquire(member) {
                self.balance.chosen(member);
                return Ok(lease);
            }
        }
        Err(why(members, candidates, self.queue > 0))
    }
}

fn why(members: &PoolMembers, candidates: Eligible<'_>, may_wait: bool) -> Unavailable {
    let mut serving = serving(candidates.members);
    let is_usable = |member: &&Member| candidates.include_unhealthy || member.is_up();
    let mut usable = serving.clone().filter(is_usable);
    // A member from an outstanding DNS answer may have capacity.
    if may_wait && members.is_waiting()
        || usable.clone().any(|member| !candidates.was_tried(member))
    {
        return Unavailable::Full;
    }
    match (usable.next(), serving.next()) {
        (None, Some(_)) => Unavailable::Down,
        (None, None) if !candidates.members.is_empty() => Unavailable::Draining,
        (None, None) if members.is_unresolved() => Unavailable::Unresolved,
        _ => Unavailable::None,
    }
}

pub(super) fn serving(members: &[Arc<Member>]) -> impl Iterator<Item = &Member> + Clone {
    let members = members.iter().map(|member| &**member);
    members.filter(|member| !member.backend.is_draining())
}

/// The number of steps between the probabilities 0 and 1.
const PROBABILITY_SCALE: u64 = 1 << 20;
