//! Who is in a pool at this moment: what was written, and what DNS says of its names.

use super::{Backend, Backends, DnsAnswer, entry::Member, resolve::MOST, terms::MemberConfig};
use crate::config::DnsName;
use std::sync::Arc;

/// The backends of a pool, from one answer of DNS to the next.
#[derive(Debug)]
pub(super) struct PoolMembers {
    groups: Vec<MemberGroup>,
    /// Everybody who may be chosen, each once.
    entries: Vec<Arc<Member>>,
    /// Whom DNS has no more, while leases on them are left, or an order to take nothing new.
    removed: Vec<Arc<Member>>,
}

/// One entry as it was written, and whom it stands for.
#[derive(Debug, Clone)]
struct MemberGroup {
    terms: Arc<MemberConfig>,
    known: Discovery,
}

#[derive(Debug, Clone)]
enum Discovery {
    /// DNS has not answered yet.
    Pending,
    /// It has, and named nobody so far.
    Empty,
    Entries(Vec<Arc<Member>>),
}

/// What an answer of DNS has changed.
#[derive(Debug, Default)]
pub struct MembershipChange {
    /// Who may be chosen from now on.
    pub added: Vec<Arc<Backend>>,
    /// Who may not.
    pub vanished: Vec<Arc<Backend>>,
    /// It is the first answer for this pool: until now nobody had to go, and now some may have to.
    pub first: bool,
}

// === impl PoolMembers ===

impl PoolMembers {
    pub(super) fn new(terms: Vec<Arc<MemberConfig>>, backends: &mut Backends) -> Self {
        let group = |terms: Arc<MemberConfig>| MemberGroup {
            known: match terms.only(backends) {
                Some(entry) => Discovery::Entries(vec![entry]),
                None => Discovery::Pending,
            },
            terms,
        };
        PoolMembers::of(terms.into_iter().map(group).collect(), Vec::new())
    }

    fn of(groups: Vec<MemberGroup>, mut removed: Vec<Arc<Member>>) -> Self {
        let mut entries: Vec<Arc<Member>> = Vec::new();
        for entry in groups.iter().flat_map(MemberGroup::entries) {
            // DNS may have an address under two names, or one that was written too.
            if !has(&entries, &entry.backend) {
                entries.push(entry.clone());
            }
        }
        removed.retain(|entry| entry.is_in_use() && !has(&entries, &entry.backend));
        PoolMembers {
            groups,
            entries,
            removed,
        }
    }

    /// The same, knowing what `before` knows of names that both have.
    pub(super) fn after(self, before: &PoolMembers, backends: &mut Backends) -> Self {
        let group = |group: MemberGroup| {
            let was = before.groups.iter().find(|was| was.name() == group.name());
            let known = match (group.name(), was.map(|was| &was.known)) {
                (Some(_), Some(Discovery::Entries(entries))) => {
                    let again = |entry: &Arc<Member>| {
                        let address = entry.backend.address();
                        group.terms.entry(address, entry.share, backends)
                    };
                    Discovery::Entries(entries.iter().map(again).collect())
                }
                (Some(_), Some(known)) => known.clone(),
                _ => group.known,
            };
            MemberGroup { known, ..group }
        };
        let groups: Vec<_> = self.groups.into_iter().map(group).collect();
        let may_return = |entry: &&Arc<Member>| {
            let mut named = groups.iter().filter(|group| group.name().is_some());
            named.any(|group| group.terms.written == entry.terms.written)
        };
        let all = before.removed.iter().chain(&before.entries);
        let vanished = all.filter(may_return).cloned().collect();
        PoolMembers::of(groups, vanished)
    }

    /// With what DNS says of `name` now; `None`: it has said nothing, and only that is new.
    pub(super) fn apply_answer(
        &self,
        name: &DnsName,
        found: Option<&DnsAnswer>,
        backends: &mut Backends,
    ) -> (PoolMembers, MembershipChange) {
        let mut followed = MembershipChange::default();
        let group = |group: &MemberGroup| {
            if group.name() != Some(name) {
                return group.clone();
            }
            let known = match (found, &group.known) {
                (Some(found), _) => Discovery::Entries(group.members_from(found, backends)),
                (None, Discovery::Pending) => Discovery::Empty,
                (None, known) => known.clone(),
            };
            followed.first |= matches!(group.known, Discovery::Pending);
            MemberGroup {
                terms: group.terms.clone(),
                known,
            }
        };
        let groups: Vec<_> = self.groups.iter().map(group).collect();
        let vanished = self.removed.iter().chain(&self.entries).cloned().collect();
        let next = PoolMembers::of(groups, vanished);
        let new = next.entries.iter();
        let new = new.filter(|entry| !has(&self.entries, &entry.backend));
        followed.added = new.map(|entry| entry.backend.clone()).collect();
        let gone = self.entries.iter();
        let gone = gone.filter(|entry| !has(&next.entries, &entry.backend));
        followed.vanished = gone.map(|entry| entry.backend.clone()).collect();
        (next, followed)
    }

    /// Who may be chosen.
    pub(super) fn entries(&self) -> &[Arc<Member>] {
        &self.entries
    }

    /// Whom DNS has no more, and who is missed.
    pub(super) fn vanished(&self) -> impl Iterator<Item = &Arc<Backend>> {
        let left = self.removed.iter().filter(|entry| entry.is_in_use());
        left.map(|entry| &entry.backend)
    }

    /// The names to ask DNS for, and the terms.
    pub(super) fn named(&self) -> impl Iterator<Item = &MemberConfig> {
        let named = self.groups.iter().filter(|group| group.name().is_some());
        named.map(|group| &*group.terms)
    }

    /// Addresses, and names of which DNS has said nothing.
    pub(super) fn shown(&self) -> impl Iterator<Item = String> {
        let unknown = self.groups.iter().filter(|group| group.is_unsure());
        let unknown = unknown.map(|group| group.terms.written.to_string());
        let known = self
            .entries
            .iter()
            .map(|entry| entry.backend.name().to_string());
        known.chain(unknown)
    }

    /// Whether DNS is yet to say who there is.
    pub(super) fn is_waiting(&self) -> bool {
        let mut known = self.groups.iter().map(|group| &group.known);
        known.any(|known| matches!(known, Discovery::Pending))
    }

    /// Whether there is a name of which DNS has said nothing so far.
    pub(super) fn is_unsure(&self) -> bool {
        self.groups.iter().any(MemberGroup::is_unsure)
    }

    /// Whether a session there may stay: on that backend, which this entry stood for when it began.
    pub(super) fn keep(&self, backend: &str, written: &str) -> bool {
        let mut entries = self.entries.iter();
        let mut named = self.named();
        entries.any(|entry| **entry.backend.name() == *backend)
            // It may be among those whom DNS is yet to name.
            || self.is_waiting()
            || named.any(|terms| *terms.written == *written && terms.keeps_vanished_sessions())
    }
}

// === impl MemberGroup ===

impl MemberGroup {
    fn name(&self) -> Option<&DnsName> {
        self.terms.dns().map(|(name, _)| name)
    }

    /// Whether it is a name of which DNS has said nothing so far.
    fn is_unsure(&self) -> bool {
        !matches!(self.known, Discovery::Entries(_))
    }

    fn entries(&self) -> &[Arc<Member>] {
        match &self.known {
            Discovery::Entries(entries) => entries,
            Discovery::Pending | Discovery::Empty => &[],
        }
    }

    /// Whom it stands for after this answer. Whoever was there before is the same, with his turn.
    fn members_from(&self, found: &DnsAnswer, backends: &mut Backends) -> Vec<Arc<Member>> {
        let before = self.entries();
        let mut entries: Vec<Arc<Member>> = Vec::new();
        for place in &found.places {
            let mut same = before.iter();
            let same = same.find(|entry| {
                *entry.backend.address() == place.address && entry.share == place.share
            });
            entries.push(match same {
                Some(entry) => entry.clone(),
                None => self.terms.entry(&place.address, place.share, backends),
            });
        }
        if !found.complete {
            // Half of an answer says of nobody that he is gone.
            let left = before.iter();
            let left = left.filter(|entry| !has(&entries, &entry.backend));
            let left: Vec<_> = left.cloned().collect();
            entries.extend(left);
            entries.truncate(MOST);
        }
        entries
    }
}

fn has(entries: &[Arc<Member>], backend: &Arc<Backend>) -> bool {
    let mut entries = entries.iter();
    entries.any(|entry| Arc::ptr_eq(&entry.backend, backend))
}
