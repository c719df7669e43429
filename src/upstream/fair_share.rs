//! Each member's share of a pool's sessions, and its excess above the share.

use std::sync::Arc;

/// A member's load compared with the other members that accept sessions.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LoadShare {
    /// The address of its backend.
    pub backend: Arc<str>,
    /// A number that changes with every slow start.
    pub generation: u64,
    /// Its number of sessions.
    pub leases: u64,
    /// Its number of sessions if all members had the same per weight.
    pub share: u64,
    /// Whether it is in slow start.
    pub warming: bool,
}

/// The load of one member.
#[derive(Debug, Clone, Copy)]
pub(crate) struct MemberLoad {
    pub(crate) leases: u64,
    /// Never 0.
    pub(crate) weight: u64,
    /// The maximum number of leases on it.
    pub(crate) max_leases: u64,
}

// === impl LoadShare ===

impl LoadShare {
    /// Returns its excess above the share; 0 for a small excess, so that no session is closed for a minor imbalance.
    pub fn surplus(&self) -> u64 {
        let tolerated = self.share + self.share.div_ceil(TOLERANCE_DIVISOR);
        if self.leases > tolerated {
            self.leases - self.share
        } else {
            0
        }
    }
}

/// Computes the share of each member in all sessions, by weight and rounded up. What exceeds a member's limit goes to
/// the others.
pub(crate) fn shares(loads: &[MemberLoad]) -> Vec<u64> {
    let mut left: u64 = loads.iter().map(|load| load.leases).sum();
    let mut weight: u64 = loads.iter().map(|load| load.weight).sum();
    let mut full = vec![false; loads.len()];
    loop {
        let share = |load: &MemberLoad| (left * load.weight).div_ceil(weight.max(1));
        let mut each = loads.iter().zip(&full);
        let Some(next) = each.position(|(load, full)| !full && share(load) > load.max_leases)
        else {
            let share = |(load, full): (&MemberLoad, &bool)| match full {
                // If all members are full, a closed session could not connect again.
                true if weight == 0 => load.max_leases.max(load.leases),
                true => load.max_leases,
                false => share(load),
            };
            return loads.iter().zip(&full).map(share).collect();
        };
        full[next] = true;
        left = left.saturating_sub(loads[next].max_leases);
        weight -= loads[next].weight;
    }
}

/// A tenth of the share.
const TOLERANCE_DIVISOR: u64 = 10;

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const NO_LIMIT: u64 = u32::MAX as u64;

    fn shares_of(loads: &[(u64, u64, u64)]) -> Vec<u64> {
        let load = |(leases, weight, max_leases): &(u64, u64, u64)| MemberLoad {
            leases: *leases,
            weight: *weight,
            max_leases: *max_leases,
        };
        shares(&loads.iter().map(load).collect::<Vec<_>>())
    }

    fn surplus(loads: &[(u64, u64)]) -> Vec<u64> {
        let unlimited: Vec<_> = loads.iter().map(|(a, b)| (*a, *b, NO_LIMIT)).collect();
        let load_share = |(load, share): (&(u64, u64), u64)| LoadShare {
            backend: "b".into(),
            generation: 0,
            leases: load.0,
            share,
            warming: false,
        };
        let each = loads.iter().zip(shares_of(&unlimited));
        each.map(|it| load_share(it).surplus()).collect()
    }

    #[test]
    fn sessions_above_a_share_are_excess() {
        for (loads, expected) in [
            (vec![], vec![]),
            (vec![(100, 1)], vec![0]),
            (vec![(0, 1), (0, 1)], vec![0, 0]),
            (vec![(100, 1), (0, 1)], vec![50, 0]),
            (vec![(101, 1), (0, 1)], vec![50, 0]),
            (vec![(100, 1), (0, 3)], vec![75, 0]),
            (vec![(50, 1), (50, 1), (0, 1)], vec![16, 16, 0]),
            // By weight they are equal.
            (vec![(25, 1), (75, 3)], vec![0, 0]),
            // A tenth above the share is tolerated; above that, the excess is counted down to the share.
            (vec![(55, 1), (45, 1)], vec![0, 0]),
            (vec![(56, 1), (44, 1)], vec![6, 0]),
            (vec![(3, 1), (0, 1)], vec![0, 0]),
            (vec![(4, 1), (0, 1)], vec![2, 0]),
        ] {
            assert_eq!(surplus(&loads), expected, "{loads:?}");
        }
    }

    #[test]
    fn share_above_a_limit_goes_to_the_others() {
        let shares = shares_of(&[(100, 1, NO_LIMIT), (0, 1, 10)]);
        assert_eq!(shares, [90, 10]);
        let shares = shares_of(&[(90, 1, NO_LIMIT), (0, 1, 10), (0, 1, 35)]);
        assert_eq!(shares, [45, 10, 35]);
        // Limits lowered below the current load: no member could accept a session.
        assert_eq!(shares_of(&[(30, 1, 10), (10, 1, 10)]), [30, 10]);
    }

    proptest! {
        #[test]
        fn shares_cover_all_sessions_up_to_rounding(
            loads in prop::collection::vec((0..100_000_u64, 1..=1000_u64, 1..50_000_u64), 1..40)
        ) {
            let total: u64 = loads.iter().map(|load| load.0).sum();
            let sum: u64 = shares_of(&loads).iter().sum();
            prop_assert!(sum >= total, "{sum} of {total}");
            let capacity: u64 = loads.iter().map(|load| load.2).sum();
            prop_assert!(capacity < total || sum <= total + loads.len() as u64, "{sum} of {total}");
        }

        #[test]
        fn closed_sessions_have_capacity_below_other_shares(
            loads in prop::collection::vec((0..100_000_u64, 1..=1000_u64), 1..40)
        ) {
            let unlimited: Vec<_> = loads.iter().map(|(a, b)| (*a, *b, NO_LIMIT)).collect();
            let each = loads.iter().zip(shares_of(&unlimited));
            let capacity: u64 = each.map(|(load, share)| share.saturating_sub(load.0)).sum();
            prop_assert!(surplus(&loads).iter().sum::<u64>() <= capacity);
        }
    }
}
