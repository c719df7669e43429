//! The DNS names in pools, and the effect of DNS answers on pools and sessions.

use super::Gateway;
use crate::{
    config::DnsName,
    observe::SessionTarget,
    upstream::{Backend, DnsAnswer, MembershipChange, Pool},
};
use std::{
    collections::BTreeMap,
    sync::{Arc, PoisonError},
    time::Duration,
};

// === impl Gateway ===

impl Gateway {
    /// Returns every name to query, with the maximum interval between two queries.
    pub fn dns_names(&self) -> BTreeMap<DnsName, Duration> {
        let mut names = BTreeMap::new();
        for (name, interval) in self.pools.iter().flat_map(|pool| pool.names()) {
            let shortest = names.entry(name).or_insert(interval);
            *shortest = interval.min(*shortest);
        }
        names
    }

    /// Applies the DNS answer for `name` to all pools that contain it; `None`: DNS has no answer. Must not be called
    /// concurrently.
    pub fn apply_dns_answer(&self, name: &DnsName, answer: Option<&DnsAnswer>) -> MembershipChange {
        let mut backends = self.backends.lock().unwrap_or_else(PoisonError::into_inner);
        let has = |names: Vec<(DnsName, _)>| names.iter().any(|(own, _)| own == name);
        let mut all = MembershipChange::default();
        for pool in self.pools.iter().filter(|pool| has(pool.names())) {
            let change = pool.follow(name, answer, &mut backends);
            all.added.extend(change.added);
            all.vanished.extend(change.vanished);
            all.first |= change.first;
        }
        all
    }

    /// Returns whether a session may stay: its route exists, and the pool of the route has its backend, or has its pool entry
    /// and keeps sessions of backends that are removed from DNS.
    pub fn may_keep(&self, session: &SessionTarget) -> bool {
        let pool = self.pools_by_route.get(&session.route);
        pool.is_some_and(|pool| pool.may_keep(&session.backend, &session.pool_entry))
    }

    /// Returns every backend that may have leases, once for each of its pools.
    pub(super) fn all_backends(&self) -> Vec<Arc<Backend>> {
        let of_pool = |pool: &Arc<Pool>| [pool.backends(), pool.vanished()].concat();
        self.pools.iter().flat_map(of_pool).collect()
    }
}
