//! Who is in a pool at this moment: what was written, and what DNS says of its names.

use super::{Backend, Backends, DnsAnswer, entry::Entry, resolve::MOST, terms::Terms};
use crate::config::DnsName;
use std::sync::Arc;

/// The backends of a pool, from one answer of DNS to the next.
#[derive(Debug)]
pub(super) struct Members {
    groups: Vec<Group>,
    /// Everybody who may be chosen, each once.
    entries: Vec<Arc<Entry>>,
    /// Whom DNS has no more, while leases on them are left, or an order to take nothing new.
    vanished: Vec<Arc<Entry>>,
}

/// One entry as it was written, and whom it stands for.
#[derive(Debug, Clone)]
struct Group {
    terms: Arc<Terms>,
    known: Known,
}

#[derive(Debug, Clone)]
enum Known {
    /// DNS has not answered yet.
    Nothing,
    /// It has, and named nobody so far.
    Nobody,
    Entries(Vec<Arc<Entry>>),
}

/// What an answer of DNS has changed.
#[derive(Debug, Default)]
pub struct Followed {
    /// Who may be chosen from now on.
    pub came: Vec<Arc<Backend>>,
    /// Who may not.
    pub vanished: Vec<Arc<Backend>>,
    /// It is the first answer for this pool: until now nobody had to go, and now some may have to.
    pub first: bool,
}

// === impl Members ===

impl Members {
    pub(super) fn new(terms: Vec<Arc<Terms>>, backends: &mut Backends) -> Self {
        let group = |terms: Arc<Terms>| Group {
            known: match terms.only(backends) {
                Some(entry) => Known::Entries(vec![entry]),
                None => Known::Nothing,
            },
            terms,
        };
        Members::of(terms.into_iter().map(group).collect(), Vec::new())
    }

    fn of(groups: Vec<Group>, mut vanished: Vec<Arc<Entry>>) -> Self {
        let mut entries: Vec<Arc<Entry>> = Vec::new();
        for entry in groups.iter().flat_map(Group::entries) {
            // DNS may have an address under two names, or one that was written too.
            if !has(&entries, &entry.backend) {
                entries.push(entry.clone());
            }
        }
        vanished.retain(|entry| entry.is_missed() && !has(&entries, &entry.backend));
        Members {
            groups,
            entries,
            vanished,
        }
    }

    /// The same, knowing what `before` knows of names that both have.
    pub(super) fn after(self, before: &Members, backends: &mut Backends) -> Self {
        let group = |group: Group| {
            let was = before.groups.iter().find(|was| was.name() == group.name());
            let known = match (group.name(), was.map(|was| &was.known)) {
                (Some(_), Some(Known::Entries(entries))) => {
                    let again = |entry: &Arc<Entry>| {
                        let address = entry.backend.address();
                        group.terms.entry(address, entry.share, backends)
                    };
                    Known::Entries(entries.iter().map(again).collect())
                }
                (Some(_), Some(known)) => known.clone(),
                _ => group.known,
            };
            Group { known, ..group }
        };
        let groups: Vec<_> = self.groups.into_iter().map(group).collect();
        let may_return = |entry: &&Arc<Entry>| {
            let mut named = groups.iter().filter(|group| group.name().is_some());
            named.any(|group| group.terms.written == entry.terms.written)
        };
        let all = before.vanished.iter().chain(&before.entries);
        let vanished = all.filter(may_return).cloned().collect();
        Members::of(groups, vanished)
    }

    /// With what DNS says of `name` now; `None`: it has said nothing, and only that is new.
    pub(super) fn follow(
        &self,
        name: &DnsName,
        found: Option<&DnsAnswer>,
        backends: &mut Backends,
    ) -> (Members, Followed) {
        let mut followed = Followed::default();
        let group = |group: &Group| {
            if group.name() != Some(name) {
                return group.clone();
            }
            let known = match (found, &group.known) {
                (Some(found), _) => Known::Entries(group.told(found, backends)),
                (None, Known::Nothing) => Known::Nobody,
                (None, known) => known.clone(),
            };
            followed.first |= matches!(group.known, Known::Nothing);
            Group {
                terms: group.terms.clone(),
                known,
            }
        };
        let groups: Vec<_> = self.groups.iter().map(group).collect();
        let vanished = self.vanished.iter().chain(&self.entries).cloned().collect();
        let next = Members::of(groups, vanished);
        let new = next.entries.iter();
        let new = new.filter(|entry| !has(&self.entries, &entry.backend));
        followed.came = new.map(|entry| entry.backend.clone()).collect();
        let gone = self.entries.iter();
        let gone = gone.filter(|entry| !has(&next.entries, &entry.backend));
        followed.vanished = gone.map(|entry| entry.backend.clone()).collect();
        (next, followed)
    }

    /// Who may be chosen.
    pub(super) fn entries(&self) -> &[Arc<Entry>] {
        &self.entries
    }

    /// Whom DNS has no more, and who is missed.
    pub(super) fn vanished(&self) -> impl Iterator<Item = &Arc<Backend>> {
        let left = self.vanished.iter().filter(|entry| entry.is_missed());
        left.map(|entry| &entry.backend)
    }

    /// The names to ask DNS for, and the terms.
    pub(super) fn named(&self) -> impl Iterator<Item = &Terms> {
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
        known.any(|known| matches!(known, Known::Nothing))
    }

    /// Whether there is a name of which DNS has said nothing so far.
    pub(super) fn is_unsure(&self) -> bool {
        self.groups.iter().any(Group::is_unsure)
    }

    /// Whether a session there may stay: on that backend, which this entry stood for when it began.
    pub(super) fn keep(&self, backend: &str, written: &str) -> bool {
        let mut entries = self.entries.iter();
        let mut named = self.named();
        entries.any(|entry| **entry.backend.name() == *backend)
            // It may be among those whom DNS is yet to name.
            || self.is_waiting()
            || named.any(|terms| *terms.written == *written && terms.outlives_its_address())
    }
}

// === impl Group ===

impl Group {
    fn name(&self) -> Option<&DnsName> {
        self.terms.dns().map(|(name, _)| name)
    }

    /// Whether it is a name of which DNS has said nothing so far.
    fn is_unsure(&self) -> bool {
        !matches!(self.known, Known::Entries(_))
    }

    fn entries(&self) -> &[Arc<Entry>] {
        match &self.known {
            Known::Entries(entries) => entries,
            Known::Nothing | Known::Nobody => &[],
        }
    }

    /// Whom it stands for after this answer. Whoever was there before is the same, with his turn.
    fn told(&self, found: &DnsAnswer, backends: &mut Backends) -> Vec<Arc<Entry>> {
        let before = self.entries();
        let mut entries: Vec<Arc<Entry>> = Vec::new();
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

fn has(entries: &[Arc<Entry>], backend: &Arc<Backend>) -> bool {
    let mut entries = entries.iter();
    entries.any(|entry| Arc::ptr_eq(&entry.backend, backend))
}
