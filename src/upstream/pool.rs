//! A named set of backends, and the pick among them.

use super::{
    Backend, Backends, Lease,
    balance::{Balance, Candidates, Key},
    entry::Entry,
    health::Probe,
    sticky::{Learner, Sticky},
};
use crate::config;
use http::{HeaderMap, HeaderValue};
use std::{net::IpAddr, sync::Arc};

/// A named set of backends; never empty.
#[derive(Debug)]
pub struct Pool {
    name: Arc<str>,
    entries: Vec<Arc<Entry>>,
    balance: Balance,
    sticky: Sticky,
    health: config::Health,
    all_down: config::AllDown,
}

/// Why there is no place on any backend.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Unavailable {
    /// There is no other than those that were tried.
    #[error("no backend is available")]
    None,
    /// Each has as many sessions and requests as it may have (`max_sessions`).
    #[error("all backends are full")]
    Full,
    /// All are down or ejected (`all_down = "refuse"`).
    #[error("all backends are down")]
    Down,
    /// All are being taken out of service.
    #[error("all backends are being taken out of service")]
    Draining,
}

// === impl Pool ===

impl Pool {
    /// A pool as it was written, of `backends` where they are known. What is wrong with files goes to `problems`.
    pub fn new(
        name: &str,
        written: &config::Pool,
        backends: &mut Backends,
        problems: &mut Vec<config::Problem>,
    ) -> Self {
        let entries: Vec<_> = written
            .backends
            .iter()
            .map(|one| Arc::new(Entry::new(one, written.passive, backends, problems)))
            .collect();
        Pool {
            name: name.into(),
            balance: Balance::new(written, &entries),
            sticky: Sticky::new(written.sticky, name),
            health: written.health.clone(),
            all_down: written.all_down,
            entries,
        }
    }

    /// The same, knowing the clients that `before` has known, if both are sticky in the same way.
    pub fn after(self, before: Option<&Pool>) -> Self {
        let sticky = match before {
            Some(before) => self.sticky.after(&before.sticky),
            None => self.sticky,
        };
        Pool { sticky, ..self }
    }

    /// Its name.
    pub fn name(&self) -> &Arc<str> {
        &self.name
    }

    /// Its backends, in the order written.
    pub fn backends(&self) -> impl Iterator<Item = &Arc<Backend>> {
        self.entries.iter().map(|entry| &entry.backend)
    }

    /// How its backends are checked.
    pub fn health(&self) -> &config::Health {
        &self.health
    }

    /// What the watch over each of its backends needs.
    pub fn probes(&self) -> impl Iterator<Item = Probe> {
        let probe = |entry| Probe::new(&self.name, entry, &self.health);
        self.entries.iter().map(probe)
    }

    /// What a request's backend is found by, for [`Pool::acquire`]: nothing, unless this pool chooses by hash or is sticky.
    pub fn key(&self, headers: &HeaderMap, path: &str, query: Option<&str>, client: IpAddr) -> Key {
        let by = self.balance.hash_key();
        let key = by.map_or_else(Key::default, |by| Key::of(by, headers, path, query, client));
        key.bound_to(self.sticky.bound(headers, query))
    }

    /// The `Set-Cookie` with which the client comes back to where it was served, unless it has it already.
    pub fn cookie(&self, key: Key, lease: &Lease) -> Option<HeaderValue> {
        let seed = lease.seed();
        match key.bound() {
            Some(bound) if bound.seed == seed => None,
            _ => self.sticky.cookie(seed),
        }
    }

    /// Who is to see the first bytes of the answer to a request with this query.
    pub fn learner(&self, query: Option<&str>, lease: &Lease) -> Option<Learner> {
        self.sticky.learner(query, lease.seed())
    }

    /// A place on the backend that it is the turn of, those in `tried` left out.
    pub fn acquire(&self, key: Key, tried: &[Arc<Backend>]) -> Result<Lease, Unavailable> {
        let candidates = Candidates {
            entries: &self.entries,
            tried,
            unwell: self.all_down == config::AllDown::Try && !self.serving().any(Entry::is_up),
        };
        // Whoever was chosen and has no place has got full meanwhile: each costs at most one round.
        for _ in &self.entries {
            let Some(entry) = self.balance.choose(candidates, key) else {
                break;
            };
            if let Some(lease) = Lease::take(entry) {
                self.balance.chosen(entry);
                return Ok(lease);
            }
        }
        Err(self.why(candidates))
    }

    fn why(&self, candidates: Candidates<'_>) -> Unavailable {
        let mut wanted = self
            .serving()
            .filter(|entry| candidates.unwell || entry.is_up());
        if wanted.clone().any(|entry| !candidates.was_tried(entry)) {
            return Unavailable::Full;
        }
        match (wanted.next(), self.serving().next()) {
            (None, Some(_)) => Unavailable::Down,
            (None, None) if !self.entries.is_empty() => Unavailable::Draining,
            _ => Unavailable::None,
        }
    }

    fn serving(&self) -> impl Iterator<Item = &Entry> + Clone {
        let entries = self.entries.iter().map(|entry| &**entry);
        entries.filter(|entry| !entry.backend.is_draining())
    }
}

// === impl Unavailable ===

impl Unavailable {
    /// A word of a closed set, for logs and metric labels.
    pub fn as_str(self) -> &'static str {
        match self {
            Unavailable::None => "no-backend",
            Unavailable::Full => "backends-full",
            Unavailable::Down => "backends-down",
            Unavailable::Draining => "backends-draining",
        }
    }
}

#[cfg(test)]
mod tests;
