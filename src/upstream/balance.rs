//! Load balancing: selects the member that receives the next session or request.
//!
//! A selection reads every candidate once or twice, takes no lock and allocates nothing. Counters may change in the
//! meantime: the selected member may not be the best one, but it is always eligible.

use crate::{
    config::{self, HashKey},
    net::{random, subnet::PackedSubnet},
    upstream::{
        backend::Backend,
        balance_key::{Affinity, BalanceKey, mix},
        health::state::HealthTier,
        member::Member,
    },
};
use std::sync::{
    Arc,
    atomic::{AtomicU64, Ordering},
};

/// The balancing algorithm of a pool.
#[derive(Debug)]
pub(crate) enum Balancer {
    LeastSessions(StrideScheduler),
    RoundRobin(StrideScheduler),
    RandomTwo,
    Hash(RendezvousHash),
}

/// The members of a pool, and the criteria by which they are eligible for a request.
#[derive(Clone, Copy)]
pub(crate) struct Eligible<'a> {
    pub(crate) members: &'a [Arc<Member>],
    /// The backends that have failed for this request.
    pub(crate) tried: &'a [Arc<Backend>],
    pub(crate) client: PackedSubnet,
    /// The least tier that is eligible.
    pub(crate) tier: HealthTier,
}

// === impl Balancer ===

impl Balancer {
    pub(crate) fn new(pool: &config::Pool) -> Self {
        match pool.balance {
            config::Balance::LeastSessions => Balancer::LeastSessions(StrideScheduler::default()),
            config::Balance::RoundRobin => Balancer::RoundRobin(StrideScheduler::default()),
            config::Balance::RandomTwo => Balancer::RandomTwo,
            config::Balance::Hash => Balancer::Hash(RendezvousHash::new(pool.hash.clone())),
        }
    }

    /// Selects a member; `None` if none is eligible.
    pub(crate) fn choose<'a>(
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
            Balancer::RandomTwo => random_two(candidates),
            Balancer::Hash(hash) => hash.choose(candidates, key),
        }
    }

    /// Records that `member` was selected and had capacity.
    pub(crate) fn record_choice(&self, member: &Member) {
        match self {
            Balancer::LeastSessions(scheduler) | Balancer::RoundRobin(scheduler) => {
                scheduler.advance(member)
            }
            Balancer::RandomTwo | Balancer::Hash(_) => {}
        }
    }

    /// Returns the part of the request that is hashed.
    pub(crate) fn hash_key(&self) -> Option<&config::HashKey> {
        match self {
            Balancer::Hash(hash) => Some(hash.by()),
            _ => None,
        }
    }
}

// === impl Eligible ===

impl<'a> Eligible<'a> {
    /// Returns the members that may receive the request.
    pub(crate) fn iter(self) -> impl Iterator<Item = &'a Arc<Member>> + Clone {
        let is_eligible = move |member: &&Arc<Member>| {
            member.is_open(self.tier)
                && member.has_capacity_for(self.client)
                && !self.was_tried(member)
        };
        self.members.iter().filter(is_eligible)
    }

    /// Returns the member that the request is bound to, if it is eligible.
    fn bound(self, bound: Affinity) -> Option<&'a Arc<Member>> {
        let is_it = |member: &&Arc<Member>| member.id_hash == bound.id_hash;
        if bound.only {
            self.members
                .iter()
                .find(|member| is_it(member) && !self.was_tried(member) && !self.is_silent(member))
        } else {
            self.iter().find(is_it)
        }
    }

    /// Returns whether the last connect to the member had no answer in time, and another one is eligible that answers.
    fn is_silent(self, member: &Member) -> bool {
        !self.tier.is_silent() && member.backend.health().tier().is_silent()
    }

    /// Returns whether an earlier attempt of the request used the backend of the member.
    pub(crate) fn was_tried(self, member: &Member) -> bool {
        let mut tried = self.tried.iter();
        tried.any(|backend| Arc::ptr_eq(backend, &member.backend))
    }
}

/// Returns the less loaded of two candidates, each drawn by weight: close to the best choice, and independent processes
/// do not all select the same backend.
fn random_two(candidates: Eligible<'_>) -> Option<&Arc<Member>> {
    let weights: u64 = candidates.iter().map(|member| member.weight).sum();
    let one = draw(candidates.iter(), random::below(weights))?;
    let others = candidates.iter().filter(|other| !Arc::ptr_eq(one, other));
    let Some(other) = draw(others, random::below(weights.saturating_sub(one.weight))) else {
        return Some(one);
    };
    if one.leases() * other.weight <= other.leases() * one.weight {
        Some(one)
    } else {
        Some(other)
    }
}

/// Returns the candidate whose range of the summed weights contains `at`; the last one if the sum has shrunk.
fn draw<'a>(
    members: impl Iterator<Item = &'a Arc<Member>>,
    mut at: u64,
) -> Option<&'a Arc<Member>> {
    let mut last = None;
    for member in members {
        if at < member.weight {
            return Some(member);
        }
        at -= member.weight;
        last = Some(member);
    }
    last
}

// Weighted round robin by stride scheduling.
//
// Every member has the virtual time of its next slot, and a slot takes longer for a smaller weight. Over any interval
// the numbers of slots are proportional to the weights, to within one.

/// The current virtual time: the latest start of a slot.
#[derive(Debug, Default)]
pub(crate) struct StrideScheduler(AtomicU64);

// === impl StrideScheduler ===

impl StrideScheduler {
    /// Returns the time of the member's next slot. A member that was draining or full does not make up for missed
    /// slots.
    pub(crate) fn next_slot(&self, member: &Member) -> u64 {
        let slot = member.next_slot.load(Ordering::Relaxed);
        slot.max(self.0.load(Ordering::Relaxed))
    }

    /// Records that the member has used its slot. If two callers see the same slot free, both count.
    pub(crate) fn advance(&self, member: &Member) {
        let now = self.0.load(Ordering::Relaxed);
        let before = member.next_slot.fetch_max(now, Ordering::Relaxed);
        let stride = (STRIDE_UNIT / member.weight).max(1);
        member.next_slot.fetch_add(stride, Ordering::Relaxed);
        self.0.fetch_max(before, Ordering::Relaxed);
    }
}

/// Length of a slot of weight 1: divisible by every weight up to 16, and by larger ones to within 0.2 %. At a million
/// slots per second the time lasts for more than half a year.
const STRIDE_UNIT: u64 = 720_720;

/// The balancing algorithm `hash`, the same backend for the same key: highest random weight (Thaler and Ravishankar
/// 1998), with bounded load (Mirrokni, Thorup and Zadimoghaddam 2016).
///
/// Every member gets a score from its address and the key, and the highest score wins. If a member is added or removed,
/// only the keys that it wins or has won move. A member with far more than its share is skipped, and the next highest
/// score wins.
#[derive(Debug)]
pub(crate) struct RendezvousHash {
    by: HashKey,
}

// === impl RendezvousHash ===

impl RendezvousHash {
    fn new(by: HashKey) -> Self {
        RendezvousHash { by }
    }

    fn by(&self) -> &HashKey {
        &self.by
    }

    fn choose<'a>(&self, candidates: Eligible<'a>, key: BalanceKey) -> Option<&'a Arc<Member>> {
        let (leases, weights) = candidates.iter().fold((0, 0), |(leases, weights), member| {
            (leases + member.leases(), weights + member.weight)
        });
        let mut all = candidates.members.iter().map(|member| member.weight);
        let first = all.next();
        // With equal weights the scores are compared without conversion.
        let equal_weights = all.all(|weight| Some(weight) == first);
        let below = |member: &&Arc<Member>| {
            // Below 5/4 of its share of all leases, including the new one.
            let leases_held = member.leases();
            leases_held < MIN_BOUND || 4 * leases_held * weights < 5 * (leases + 1) * member.weight
        };
        // All members are at their bounds only if counts have changed in the meantime.
        highest(candidates.iter().filter(below), key, equal_weights)
            .or_else(|| highest(candidates.iter(), key, equal_weights))
    }
}

fn highest<'a>(
    members: impl Iterator<Item = &'a Arc<Member>>,
    key: BalanceKey,
    equal_weights: bool,
) -> Option<&'a Arc<Member>> {
    let scored = members.map(|member| (mix(key.number() ^ member.id_hash), member));
    let highest = if equal_weights {
        scored.max_by_key(|(number, _)| *number)
    } else {
        scored
            .map(|(number, member)| (number, member, weighted_score(number, member.weight)))
            .max_by(|(_, _, one), (_, _, other)| one.total_cmp(other))
            .map(|(number, member, _)| (number, member))
    };
    highest.map(|(_, member)| member)
}

/// Returns ln(u) / weight, for u uniform in (0, 1]: a member of weight w has the highest score with probability w / ∑ w
/// (Schindelhauer and Schomaker 2005).
fn weighted_score(number: u64, weight: u64) -> f64 {
    // The 53 bits that an `f64` holds.
    let uniform = ((number >> 11) + 1) as f64 / (1_u64 << 53) as f64;
    uniform.ln() / weight as f64
}

/// A member with at most this number of leases never exceeds the bound, so that the few clients of one key stay
/// together at low load.
const MIN_BOUND: u64 = 8;
