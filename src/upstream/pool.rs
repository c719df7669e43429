//! A named set of backends, and the pick among them.

use super::{
    Backend, Backends, Lease,
    admission::{Admission, Entered, Wish},
    balance::{Balance, Candidates, Dice, Key},
    entry::Entry,
    health::Probe,
    sticky::{Learner, Sticky},
};
use crate::config;
use http::{HeaderMap, HeaderValue};
use std::{net::IpAddr, sync::Arc, time::Duration};
use tokio::time::Instant;

/// A named set of backends; never empty.
#[derive(Debug)]
pub struct Pool {
    name: Arc<str>,
    entries: Vec<Arc<Entry>>,
    balance: Balance,
    sticky: Sticky,
    health: config::Health,
    all_down: config::AllDown,
    /// One for all configurations that have a pool of this name.
    admission: Arc<Admission>,
    /// How many may wait, and how long.
    queue: usize,
    wait: Duration,
    retry: config::Retry,
    slow_start: Duration,
    /// Whether one that is getting warm is passed over.
    dice: Dice,
}

/// Why there is no place on any backend.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Unavailable {
    /// There is no other than those that were tried.
    #[error("no backend is available")]
    None,
    /// Each has as many sessions, requests or handshakes as it may have (`max_sessions`, `admission.handshakes`).
    #[error("all backends are full")]
    Full,
    /// All are down or ejected (`all_down = "refuse"`).
    #[error("all backends are down")]
    Down,
    /// All are being taken out of service.
    #[error("all backends are being taken out of service")]
    Draining,
    /// They are full, and as many wait as may (`admission.queue`).
    #[error("all backends are full, and too many wait")]
    QueueFull,
    /// They are full, and as many of this client wait as may.
    #[error("all backends are full, and too many of this client wait")]
    QueueShare,
    /// None has become free in time (`admission.wait`).
    #[error("all backends were full for too long")]
    QueueWait,
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
            .map(|one| Arc::new(Entry::new(one, written, backends, problems)))
            .collect();
        Pool {
            name: name.into(),
            balance: Balance::new(written, &entries),
            sticky: Sticky::new(written.sticky, name),
            health: written.health.clone(),
            all_down: written.all_down,
            entries,
            admission: Arc::new(Admission::new()),
            queue: written.admission.queue as usize,
            wait: written.admission.wait.0,
            retry: written.retry,
            slow_start: written.slow_start.0,
            dice: Dice::new(),
        }
    }

    /// The same in the place of `before`: with its queue, which hears of nothing new until [`Pool::commit`], and knowing the
    /// clients that it has known, if both are sticky in the same way. Backends that nobody had yet start slowly.
    pub fn after(self, before: Option<&Pool>) -> Self {
        let Some(before) = before else {
            // Where all are new there is nobody who could take more meanwhile, and nobody waits.
            self.commit();
            return self;
        };
        let new = self.backends().filter(|backend| backend.is_new());
        new.for_each(|backend| backend.warm(Instant::now()));
        Pool {
            sticky: self.sticky.after(&before.sticky),
            admission: before.admission.clone(),
            ..self
        }
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

    /// A place on the backend that it is the turn of, those in `tried` left out: at once, or in the order in which those
    /// came who wait, until `deadline` or for as long as this pool has them wait.
    pub async fn acquire(
        &self,
        key: Key,
        client: IpAddr,
        tried: &[Arc<Backend>],
        deadline: Instant,
    ) -> Result<Lease, Unavailable> {
        if self.admission.is_idle()
            && let Ok(lease) = self.pick(key, tried)
        {
            return Ok(lease);
        }
        let wish = Wish {
            client,
            tried,
            only: self.only(key, tried),
            queue: self.queue,
        };
        match self.admission.enter(wish, || self.pick(key, tried))? {
            Entered::Lease(lease) => Ok(lease),
            Entered::Waiting(waiting) => {
                let until = deadline.min(Instant::now() + self.wait);
                // Boxed, or all who need not wait would carry the room for it about.
                Box::pin(waiting.place(until)).await
            }
        }
    }

    /// How many wait for a place.
    pub fn waiting(&self) -> usize {
        self.admission.waiting()
    }

    /// Who is tried again, and how often.
    pub fn retry(&self) -> config::Retry {
        self.retry
    }

    /// Whether this backend gets only a part of what is new.
    pub fn is_warming(&self, backend: &Backend, now: Instant) -> bool {
        backend.warmth(now, self.slow_start).is_some()
    }

    /// Its backends and their ceilings are in force for those who wait, too.
    pub fn commit(&self) {
        let try_down = self.all_down == config::AllDown::Try;
        self.admission.renew(&self.entries, try_down);
    }

    /// A place that there is now, whoever waits.
    fn pick(&self, key: Key, tried: &[Arc<Backend>]) -> Result<Lease, Unavailable> {
        if let Some(cold) = self.passed_over(key, tried)
            && let Ok(lease) = self.pick_among(key, &cold)
        {
            return Ok(lease);
        }
        self.pick_among(key, tried)
    }

    /// `tried`, and those that are getting warm and are left out this time; `None` where there are none of these.
    fn passed_over(&self, key: Key, tried: &[Arc<Backend>]) -> Option<Vec<Arc<Backend>>> {
        if self.slow_start.is_zero() {
            return None;
        }
        let now = Instant::now();
        let is_cold = |entry: &&Arc<Entry>| {
            // Who belongs there is not new.
            let is_own = key.bound().is_some_and(|bound| bound.seed == entry.seed);
            let warmth = entry.backend.warmth(now, self.slow_start);
            let is_left = |warmth| self.dice.below(WHOLE) as f64 >= warmth * WHOLE as f64;
            !is_own && warmth.is_some_and(is_left)
        };
        let cold = self.entries.iter().filter(is_cold);
        let cold: Vec<_> = cold.map(|entry| entry.backend.clone()).collect();
        (!cold.is_empty()).then(|| [tried, &cold].concat())
    }

    /// The seed of the only backend that can serve this request, unless that was tried.
    fn only(&self, key: Key, tried: &[Arc<Backend>]) -> Option<u64> {
        let bound = key.bound().filter(|bound| bound.only)?;
        let mut entries = self.entries.iter();
        let own = entries.find(|entry| entry.seed == bound.seed)?;
        let was_tried = tried.iter().any(|one| Arc::ptr_eq(one, &own.backend));
        (!was_tried).then_some(bound.seed)
    }

    fn pick_among(&self, key: Key, tried: &[Arc<Backend>]) -> Result<Lease, Unavailable> {
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
            Unavailable::QueueFull => "queue-full",
            Unavailable::QueueShare => "queue-share",
            Unavailable::QueueWait => "queue-wait",
        }
    }

    /// Whether there were backends, and only no places.
    pub fn is_crowded(self) -> bool {
        use Unavailable::{Down, Draining, None};
        !matches!(self, None | Down | Draining)
    }
}

/// What a chance is measured in.
const WHOLE: u64 = 1 << 20;

#[cfg(test)]
mod tests;
