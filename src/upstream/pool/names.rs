//! The DNS names of a pool, and how their answers change its members.

use super::Pool;
use crate::{
    config::DnsName,
    upstream::{Backend, Backends, DnsAnswer, MembershipChange},
};
use std::{sync::Arc, time::Duration};
use tokio::time::Instant;

// === impl Pool ===

impl Pool {
    /// Returns the names to resolve, and the maximum interval between queries.
    pub fn names(&self) -> Vec<(DnsName, Duration)> {
        let members = self.members.load();
        let names = members.named().filter_map(|config| config.dns());
        names
            .map(|(name, interval)| (name.clone(), interval))
            .collect()
    }

    /// Applies the DNS answer for `name`: added members become eligible, removed ones do not stay eligible. `None`: DNS
    /// has no answer, and the pool does not wait for it any longer.
    ///
    /// Must not be called concurrently.
    pub fn follow(
        &self,
        name: &DnsName,
        found: Option<&DnsAnswer>,
        backends: &mut Backends,
    ) -> MembershipChange {
        let before = self.members.load();
        let (next, change) = before.apply_answer(name, found, backends);
        // If all backends are new, no other can take the load in the meantime.
        if !before.current().is_empty() {
            let returns = |new: &Arc<Backend>| before.vanished().any(|it| Arc::ptr_eq(it, new));
            let recovering = change.added.iter();
            let recovering = recovering.filter(|new| new.is_new() || returns(new));
            let now = Instant::now();
            recovering.for_each(|new| new.start_slow(now));
        }
        let must_reject = next.current().is_empty() && !next.is_waiting();
        self.members.store(Arc::new(next));
        self.commit();
        if must_reject {
            self.admission.reject_all();
        }
        change
    }

    /// Returns the backends that are no longer in DNS, but have leases or are draining by an order.
    pub fn vanished(&self) -> Vec<Arc<Backend>> {
        self.members.load().vanished().cloned().collect()
    }

    /// Returns whether a session may stay: its backend is a member, or may leave DNS without closing it. `pool_entry`:
    /// the pool entry of the session.
    pub fn may_keep(&self, backend: &str, pool_entry: &str) -> bool {
        self.members.load().keep(backend, pool_entry)
    }

    /// Returns the addresses of all members, and the configured names without a DNS answer.
    pub fn shown(&self) -> Vec<String> {
        let members = self.members.load();
        members.shown().collect()
    }
}
