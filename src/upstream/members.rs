//! The members of a pool: configured addresses, and the backends that DNS returns for configured names.

use super::{Backend, Backends, DnsAnswer, entry::Member, resolve::MOST, terms::MemberConfig};
use crate::config::DnsName;
use std::sync::Arc;

/// The members of a pool between two DNS answers.
#[derive(Debug)]
pub(super) struct PoolMembers {
    groups: Vec<MemberGroup>,
    /// All members that are eligible, without duplicates.
    entries: Vec<Arc<Member>>,
    /// Backends that are no longer in DNS, while leases on them are held or a drain is ordered.
    removed: Vec<Arc<Member>>,
}

/// One configured entry and its members.
#[derive(Debug, Clone)]
struct MemberGroup {
    terms: Arc<MemberConfig>,
    known: Discovery,
}

#[derive(Debug, Clone)]
enum Discovery {
    /// DNS has not answered yet.
    Pending,
    /// DNS has answered, but without an address so far.
    Empty,
    Entries(Vec<Arc<Member>>),
}

/// What a DNS answer has changed.
#[derive(Debug, Default)]
pub struct MembershipChange {
    /// Members that are eligible from now on.
    pub added: Vec<Arc<Backend>>,
    /// Members that are not eligible any longer.
    pub vanished: Vec<Arc<Backend>>,
    /// Whether it is the first answer for this pool: until now sessions of a previous configuration were kept, and some
    /// may have to close now.
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
            // DNS may return an address under two names, or one that is configured too.
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

    /// Returns the members with the DNS answers of `before` for names that both have.
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

    /// Returns the members with the DNS answer for `name`; `None`: DNS has no answer, and only that is new.
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

    /// Returns the members that are eligible.
    pub(super) fn entries(&self) -> &[Arc<Member>] {
        &self.entries
    }

    /// Returns the backends that are no longer in DNS but still in use.
    pub(super) fn vanished(&self) -> impl Iterator<Item = &Arc<Backend>> {
        let left = self.removed.iter().filter(|entry| entry.is_in_use());
        left.map(|entry| &entry.backend)
    }

    /// Returns the names to resolve and their configurations.
    pub(super) fn named(&self) -> impl Iterator<Item = &MemberConfig> {
        let named = self.groups.iter().filter(|group| group.name().is_some());
        named.map(|group| &*group.terms)
    }

    /// Returns the configured addresses, and the names without a DNS answer.
    pub(super) fn shown(&self) -> impl Iterator<Item = String> {
        let unknown = self.groups.iter().filter(|group| group.is_unsure());
        let unknown = unknown.map(|group| group.terms.written.to_string());
        let known = self
            .entries
            .iter()
            .map(|entry| entry.backend.name().to_string());
        known.chain(unknown)
    }

    /// Returns whether the pool is empty because DNS has not answered yet.
    pub(super) fn is_waiting(&self) -> bool {
        let mut known = self.groups.iter().map(|group| &group.known);
        known.any(|known| matches!(known, Discovery::Pending))
    }

    /// Returns whether there is a name without a DNS answer so far.
    pub(super) fn is_unsure(&self) -> bool {
        self.groups.iter().any(MemberGroup::is_unsure)
    }

    /// Returns whether a session may stay on that backend, which was a member by this entry when the session began.
    pub(super) fn keep(&self, backend: &str, written: &str) -> bool {
        let mut entries = self.entries.iter();
        let mut named = self.named();
        entries.any(|entry| **entry.backend.name() == *backend)
            // The backend may be in a DNS answer that is still outstanding.
            || self.is_waiting()
            || named.any(|terms| *terms.written == *written && terms.keeps_vanished_sessions())
    }
}

// === impl MemberGroup ===

impl MemberGroup {
    fn name(&self) -> Option<&DnsName> {
        self.terms.dns().map(|(name, _)| name)
    }

    /// Returns whether it is a name without a DNS answer so far.
    fn is_unsure(&self) -> bool {
        !matches!(self.known, Discovery::Entries(_))
    }

    fn entries(&self) -> &[Arc<Member>] {
        match &self.known {
            Discovery::Entries(entries) => entries,
            Discovery::Pending | Discovery::Empty => &[],
        }
    }

    /// Returns the members after this answer. Members that are kept stay the same objects, with their slots.
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
            // An incomplete answer removes no member.
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
