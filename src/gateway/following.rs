//! Names in DNS: which there are, and what an answer changes.

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
    /// Every name that DNS is to be asked for, and how often at least.
    pub fn dns_names(&self) -> BTreeMap<DnsName, Duration> {
        let mut names = BTreeMap::new();
        for (name, often) in self.pools.iter().flat_map(|pool| pool.names()) {
            let least = names.entry(name).or_insert(often);
            *least = often.min(*least);
        }
        names
    }

    /// What DNS says of `name` is in force in all pools that have it; `None`: it says nothing. Not to be called by two at a
    /// time.
    pub fn apply_dns_answer(&self, name: &DnsName, found: Option<&DnsAnswer>) -> MembershipChange {
        let mut backends = self.backends.lock().unwrap_or_else(PoisonError::into_inner);
        let has = |names: Vec<(DnsName, _)>| names.iter().any(|(its, _)| its == name);
        let mut all = MembershipChange::default();
        for pool in self.pools.iter().filter(|pool| has(pool.names())) {
            let followed = pool.follow(name, found, &mut backends);
            all.added.extend(followed.added);
            all.vanished.extend(followed.vanished);
            all.first |= followed.first;
        }
        all
    }

    /// Whether a session may stay: its route is still there, and that route's pool still has its backend, or has its entry
    /// and keeps who came by it.
    pub fn may_keep(&self, session: &SessionTarget) -> bool {
        let pool = self.pools_by_route.get(&session.route);
        pool.is_some_and(|pool| pool.may_keep(&session.backend, &session.pool_entry))
    }

    /// Every backend on which there may be leases, once for each pool.
    pub(super) fn all_backends(&self) -> Vec<Arc<Backend>> {
        let of_pool = |pool: &Arc<Pool>| [pool.backends(), pool.vanished()].concat();
        self.pools.iter().flat_map(of_pool).collect()
    }
}
