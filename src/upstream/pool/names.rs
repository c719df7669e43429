//! A pool's names in DNS, and what DNS says of them.

use super::Pool;
use crate::{
    config::DnsName,
    upstream::{Backend, Backends, DnsAnswer, MembershipChange},
};
use std::{sync::Arc, time::Duration};
use tokio::time::Instant;

// === impl Pool ===

impl Pool {
    /// The names that DNS is to be asked for, and how often at least.
    pub fn names(&self) -> Vec<(DnsName, Duration)> {
        let members = self.members.load();
        let names = members.named().filter_map(|terms| terms.dns());
        names.map(|(name, often)| (name.clone(), often)).collect()
    }

    /// What DNS says of `name` is in force: who came is chosen, who has vanished is not. `None`: it says nothing, and it
    /// is waited for no more.
    ///
    /// Not to be called by two at a time.
    pub fn follow(
        &self,
        name: &DnsName,
        found: Option<&DnsAnswer>,
        backends: &mut Backends,
    ) -> MembershipChange {
        let before = self.members.load();
        let (next, followed) = before.apply_answer(name, found, backends);
        // Where all are new there is nobody who could take more meanwhile.
        if !before.entries().is_empty() {
            let returns = |new: &Arc<Backend>| before.vanished().any(|it| Arc::ptr_eq(it, new));
            let cold = followed.added.iter();
            let cold = cold.filter(|new| new.is_new() || returns(new));
            let now = Instant::now();
            cold.for_each(|new| new.start_slow(now));
        }
        let is_hopeless = next.entries().is_empty() && !next.is_waiting();
        self.members.store(Arc::new(next));
        self.commit();
        if is_hopeless {
            self.admission.reject_all();
        }
        followed
    }

    /// Whom DNS has no more, and who has leases left or was ordered to take nothing new.
    pub fn vanished(&self) -> Vec<Arc<Backend>> {
        self.members.load().vanished().cloned().collect()
    }

    /// Whether a session may stay: its backend is there, or may be gone from DNS. `written`: the entry that it came by.
    pub fn may_keep(&self, backend: &str, written: &str) -> bool {
        self.members.load().keep(backend, written)
    }

    /// All that was written, as it is known now: addresses, and names of which DNS has said nothing.
    pub fn shown(&self) -> Vec<String> {
        let members = self.members.load();
        members.shown().collect()
    }
}
