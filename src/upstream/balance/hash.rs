//! The same backend for the same key: highest random weight (Thaler and Ravishankar 1998), with bounded load (Mirrokni,
//! Thorup and Zadimoghaddam 2016).
//!
//! Every member gets a score from its address and the key, and the highest score wins. If a member is added or removed,
//! only the keys that it wins or has won move. A member with far more than its share is skipped, and the next highest
//! score wins.

use super::{BalanceKey, Eligible, key::mix};
use crate::{config::HashKey, upstream::entry::Member};
use std::sync::Arc;

/// The balancing algorithm `hash`.
#[derive(Debug)]
pub(in crate::upstream) struct RendezvousHash {
    by: HashKey,
}

// === impl RendezvousHash ===

impl RendezvousHash {
    pub(super) fn new(by: HashKey) -> Self {
        RendezvousHash { by }
    }

    pub(super) fn by(&self) -> &HashKey {
        &self.by
    }

    pub(super) fn choose<'a>(
        &self,
        candidates: Eligible<'a>,
        key: BalanceKey,
    ) -> Option<&'a Arc<Member>> {
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
    let highest = match equal_weights {
        true => scored.max_by_key(|(number, _)| *number),
        false => scored
            .map(|(number, member)| (number, member, weighted_score(number, member.weight)))
            .max_by(|(_, _, one), (_, _, other)| one.total_cmp(other))
            .map(|(number, member, _)| (number, member)),
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

/// Up to this number of leases is never over the bound, so that the few clients of one key stay together at low load.
const MIN_BOUND: u64 = 8;
