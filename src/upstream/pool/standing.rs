//! The rebalancing settings of a pool, and the load shares of its members.

use super::{
    super::{
        balance::{MemberLoad, shares},
        entry::Member,
    },
    Pool,
    pick::serving,
};
use crate::upstream::LoadShare;
use std::time::Duration;
use tokio::time::Instant;

// === impl Pool ===

impl Pool {
    /// Returns the interval between two closes for rebalancing; `None`: rebalancing is off.
    pub fn rebalance(&self) -> Option<Duration> {
        self.rebalance.gap()
    }

    /// Returns the load shares of the members that can accept sessions.
    pub fn load_shares(&self, now: Instant) -> Vec<LoadShare> {
        let members = self.members.load();
        let available = serving(members.current());
        let available: Vec<&Member> = available.filter(|member| member.is_up()).collect();
        let loads: Vec<MemberLoad> = available.iter().map(|member| member.load()).collect();
        let load_share = |((member, load), share): ((&Member, &MemberLoad), u64)| LoadShare {
            backend: member.backend.name().clone(),
            generation: member.backend.generation(),
            leases: load.leases,
            share,
            warming: self.is_warming(&member.backend, now),
        };
        let each = available.into_iter().zip(&loads).zip(shares(&loads));
        each.map(load_share).collect()
    }
}
