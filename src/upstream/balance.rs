//! Load balancing: selects the member that receives the next session or request.
//!
//! A selection reads every candidate once or twice, takes no lock and allocates nothing. Counters may change in the
//! meantime: the selected member may not be the best one, but it is always eligible.

mod hash;
mod key;
mod random;
mod share;
mod turns;

pub use key::BalanceKey;
pub(super) use key::stable_hash;
pub(super) use random::Rng;
pub use share::LoadShare;
pub(super) use share::{MemberLoad, shares};

use super::{Backend, entry::Member, sticky::Affinity};
use crate::config;
use hash::RendezvousHash;
use std::sync::Arc;
use turns::StrideScheduler;

/// The balancing algorithm of a pool.
#[derive(Debug)]
pub(super) enum Balancer {
    LeastSessions(StrideScheduler),
    RoundRobin(StrideScheduler),
    RandomTwo(Rng),
    Hash(RendezvousHash),
}

/// The members of a pool, and the criteria by which they are eligible for a request.
#[derive(Clone, Copy)]
pub(super) struct Eligible<'a> {
    pub(super) members: &'a [Arc<Member>],
    /// The backends that have failed for this request.
    pub(super) tried: &'a [Arc<Backend>],
    /// Whether members that are down or ejected are eligible too.
    pub(super) include_unhealthy: bool,
}

// === impl Balancer ===

impl Balancer {
    pub(super) fn new(pool: &config::Pool) -> Self {
        match pool.balance {
            config::Balance::LeastSessions => Balancer::LeastSessions(StrideScheduler::default()),
            config::Balance::RoundRobin => Balancer::RoundRobin(StrideScheduler::default()),
            config::Balance::RandomTwo => Balancer::RandomTwo(Rng::new()),
            config::Balance::Hash => Balancer::Hash(RendezvousHash::new(pool.hash.clone())),
        }
    }

    /// Selects a member; `None` if none is eligible.
    pub(super) fn choose<'a>(
        &self,
        candidates: Eligible<'a>,
        key: BalanceKey,
    ) -> Option<&'a Arc<Member>> {
        if let Some(own) = key.bound().and_then(|bound| candidates.bound(bound)) {
            return Some(own);
        }
        match self {
            Balancer::LeastSessions(scheduler) => {
                let loaded = candidates.iter().map(|member| (member.leases(), member));
                let least = loaded.min_by(|(its, one), (others, other)| {
                    // its / one.weight against others / other.weight.
                    (its * other.weight)
                        .cmp(&(others * one.weight))
                        .then_with(|| scheduler.next_slot(one).cmp(&scheduler.next_slot(other)))
                });
                least.map(|(_, member)| member)
            }
            Balancer::RoundRobin(scheduler) => candidates
                .iter()
                .min_by_key(|member| scheduler.next_slot(member)),
            Balancer::RandomTwo(rng) => random::choose(candidates, rng),
            Balancer::Hash(hash) => hash.choose(candidates, key),
        }
    }

    /// Records that `member` was selected and had capacity.
    pub(super) fn chosen(&self, member: &Member) {
        match self {
            Balancer::LeastSessions(scheduler) | Balancer::RoundRobin(scheduler) => {
                scheduler.advance(member)
            }
            Balancer::RandomTwo(_) | Balancer::Hash(_) => {}
        }
    }

    /// Returns the part of the request that is hashed.
    pub(super) fn hash_key(&self) -> Option<&config::HashKey> {
        match self {
            Balancer::Hash(hash) => Some(hash.by()),
            _ => None,
        }
    }
}

// === impl Eligible ===

impl<'a> Eligible<'a> {
    pub(super) fn iter(self) -> impl Iterator<Item = &'a Arc<Member>> + Clone {
        let is_eligible = move |member: &&Arc<Member>| {
            member.is_open(self.include_unhealthy)
                && member.has_capacity()
                && !self.was_tried(member)
        };
        self.members.iter().filter(is_eligible)
    }

    /// Returns the member that the request is bound to, if it is eligible.
    fn bound(self, bound: Affinity) -> Option<&'a Arc<Member>> {
        let is_it = |member: &&Arc<Member>| member.id_hash == bound.id_hash;
        match bound.only {
            true => self
                .members
                .iter()
                .find(|member| is_it(member) && !self.was_tried(member)),
            false => self.iter().find(is_it),
        }
    }

    pub(super) fn was_tried(self, member: &Member) -> bool {
        let mut tried = self.tried.iter();
        tried.any(|backend| Arc::ptr_eq(backend, &member.backend))
    }
}
