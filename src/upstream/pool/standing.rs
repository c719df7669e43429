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
        let open = serving(members.entries());
        let open: Vec<&Member> = open.filter(|entry| entry.is_up()).collect();
        let parts: Vec<MemberLoad> = open.iter().map(|entry| entry.load()).collect();
        let standing = |((entry, part), share): ((&Member, &MemberLoad), u64)| LoadShare {
            backend: entry.backend.name().clone(),
            came: entry.backend.generation(),
            leases: part.leases,
            share,
            warming: self.is_warming(&entry.backend, now),
        };
        let each = open.into_iter().zip(&parts).zip(shares(&parts));
        each.map(standing).collect()
    }
}
