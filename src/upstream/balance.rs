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

/// The members that are eligible.
#[derive(Clone, Copy)]
pub(super) struct Eligible<'a> {
    pub(super) entries: &'a [Arc<Member>],
    /// The backends that have failed for this request.
    pub(super) tried: &'a [Arc<Backend>],
    /// Whether members that are down or ejected are eligible too.
    pub(super) unwell: bool,
}

// === impl Balancer ===

impl Balancer {
    pub(super) fn new(written: &config::Pool) -> Self {
        match written.balance {
            config::Balance::LeastSessions => Balancer::LeastSessions(StrideScheduler::default()),
            config::Balance::RoundRobin => Balancer::RoundRobin(StrideScheduler::default()),
            config::Balance::RandomTwo => Balancer::RandomTwo(Rng::new()),
            config::Balance::Hash => Balancer::Hash(RendezvousHash::new(written.hash.clone())),
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
            Balancer::LeastSessions(turns) => {
                let loaded = candidates.iter().map(|entry| (entry.leases(), entry));
                let least = loaded.min_by(|(its, one), (others, other)| {
                    // its / one.weight against others / other.weight.
                    (its * other.weight)
                        .cmp(&(others * one.weight))
                        .then_with(|| turns.of(one).cmp(&turns.of(other)))
                });
                least.map(|(_, entry)| entry)
            }
            Balancer::RoundRobin(turns) => candidates.iter().min_by_key(|entry| turns.of(entry)),
            Balancer::RandomTwo(dice) => random::choose(candidates, dice),
            Balancer::Hash(hash) => hash.choose(candidates, key),
        }
    }

    /// Records that `entry` was selected and had capacity.
    pub(super) fn chosen(&self, entry: &Member) {
        match self {
            Balancer::LeastSessions(turns) | Balancer::RoundRobin(turns) => turns.take(entry),
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
        let is_one = move |entry: &&Arc<Member>| {
            entry.is_open(self.unwell) && entry.has_capacity() && !self.was_tried(entry)
        };
        self.entries.iter().filter(is_one)
    }

    /// Returns the member that the request is bound to, if it is eligible.
    fn bound(self, bound: Affinity) -> Option<&'a Arc<Member>> {
        let is_it = |entry: &&Arc<Member>| entry.id_hash == bound.seed;
        match bound.only {
            true => self
                .entries
                .iter()
                .find(|entry| is_it(entry) && !self.was_tried(entry)),
            false => self.iter().find(is_it),
        }
    }

    pub(super) fn was_tried(self, entry: &Member) -> bool {
        let mut tried = self.tried.iter();
        tried.any(|backend| Arc::ptr_eq(backend, &entry.backend))
    }
}
