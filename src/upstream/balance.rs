//! Which of a pool's backends gets the next session or request.
//!
//! A choice looks at every candidate once or twice, takes no lock and allocates nothing. Counters may change under it: a
//! choice that is not quite the best is made, never a wrong one.

mod hash;
mod key;
mod random;
mod share;
mod turns;

pub use key::Key;
pub(super) use key::fingerprint;
pub(super) use random::Rng;
pub use share::Standing;
pub(super) use share::{Part, shares};

use super::{Backend, entry::Entry, sticky::Bound};
use crate::config;
use hash::Hash;
use std::sync::Arc;
use turns::Turns;

/// How a pool chooses.
#[derive(Debug)]
pub(super) enum Balance {
    LeastSessions(Turns),
    RoundRobin(Turns),
    RandomTwo(Rng),
    Hash(Hash),
}

/// Those who may be chosen.
#[derive(Clone, Copy)]
pub(super) struct Candidates<'a> {
    pub(super) entries: &'a [Arc<Entry>],
    /// Those that have failed already.
    pub(super) tried: &'a [Arc<Backend>],
    /// Also those that are down or ejected.
    pub(super) unwell: bool,
}

// === impl Balance ===

impl Balance {
    pub(super) fn new(written: &config::Pool) -> Self {
        match written.balance {
            config::Balance::LeastSessions => Balance::LeastSessions(Turns::default()),
            config::Balance::RoundRobin => Balance::RoundRobin(Turns::default()),
            config::Balance::RandomTwo => Balance::RandomTwo(Rng::new()),
            config::Balance::Hash => Balance::Hash(Hash::new(written.hash.clone())),
        }
    }

    /// `None` where there are no candidates.
    pub(super) fn choose<'a>(
        &self,
        candidates: Candidates<'a>,
        key: Key,
    ) -> Option<&'a Arc<Entry>> {
        if let Some(own) = key.bound().and_then(|bound| candidates.bound(bound)) {
            return Some(own);
        }
        match self {
            Balance::LeastSessions(turns) => {
                let loaded = candidates.iter().map(|entry| (entry.leases(), entry));
                let least = loaded.min_by(|(its, one), (others, other)| {
                    // its / one.weight against others / other.weight.
                    (its * other.weight)
                        .cmp(&(others * one.weight))
                        .then_with(|| turns.of(one).cmp(&turns.of(other)))
                });
                least.map(|(_, entry)| entry)
            }
            Balance::RoundRobin(turns) => candidates.iter().min_by_key(|entry| turns.of(entry)),
            Balance::RandomTwo(dice) => random::choose(candidates, dice),
            Balance::Hash(hash) => hash.choose(candidates, key),
        }
    }

    /// `entry` was chosen, and had a place.
    pub(super) fn chosen(&self, entry: &Entry) {
        match self {
            Balance::LeastSessions(turns) | Balance::RoundRobin(turns) => turns.take(entry),
            Balance::RandomTwo(_) | Balance::Hash(_) => {}
        }
    }

    /// What a request is hashed by.
    pub(super) fn hash_key(&self) -> Option<&config::HashKey> {
        match self {
            Balance::Hash(hash) => Some(hash.by()),
            _ => None,
        }
    }
}

// === impl Candidates ===

impl<'a> Candidates<'a> {
    pub(super) fn iter(self) -> impl Iterator<Item = &'a Arc<Entry>> + Clone {
        let is_one = move |entry: &&Arc<Entry>| {
            entry.is_open(self.unwell) && entry.has_room() && !self.was_tried(entry)
        };
        self.entries.iter().filter(is_one)
    }

    /// The one that a request belongs to, if it can be had.
    fn bound(self, bound: Bound) -> Option<&'a Arc<Entry>> {
        let is_it = |entry: &&Arc<Entry>| entry.seed == bound.seed;
        match bound.only {
            true => self
                .entries
                .iter()
                .find(|entry| is_it(entry) && !self.was_tried(entry)),
            false => self.iter().find(is_it),
        }
    }

    pub(super) fn was_tried(self, entry: &Entry) -> bool {
        let mut tried = self.tried.iter();
        tried.any(|backend| Arc::ptr_eq(backend, &entry.backend))
    }
}
