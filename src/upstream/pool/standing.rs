//! Whether a pool's sessions are evened out, and how its backends stand.

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
    /// From one session that is closed because its backend has too many to the next; `None`: none is.
    pub fn rebalance(&self) -> Option<Duration> {
        self.rebalance.gap()
    }

    /// Those of its backends that can take sessions now, beside each other.
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
