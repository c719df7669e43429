//! A named set of backends, and the pick among them.

mod names;
mod pick;
mod standing;

use super::{
    Backend, BackendState, Backends, Lease,
    admission::{AdmissionQueue, Admitted, QueueRequest},
    balance::{BalanceKey, Balancer, Rng},
    health::HealthCheck,
    members::PoolMembers,
    sticky::{SidCapture, StickyStrategy},
    terms::MemberConfig,
};
use crate::config;
use arc_swap::ArcSwap;
use http::{HeaderMap, HeaderValue};
use std::{net::IpAddr, sync::Arc, time::Duration};
use tokio::time::Instant;

/// A named set of backends; empty only while DNS knows none.
#[derive(Debug)]
pub struct Pool {
    name: Arc<str>,
    /// Those that there are at this moment; replaced when DNS says something else.
    members: ArcSwap<PoolMembers>,
    balance: Balancer,
    sticky: StickyStrategy,
    health: config::Health,
    all_down: config::AllDown,
    /// One for all configurations that have a pool of this name.
    admission: Arc<AdmissionQueue>,
    /// How many may wait, and how long.
    queue: usize,
    wait: Duration,
    retry: config::Retry,
    slow_start: Duration,
    rebalance: config::Rebalance,
    /// Whether one that is getting warm is passed over.
    rng: Rng,
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
    /// DNS knows none.
    #[error("DNS knows no backend")]
    Unresolved,
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
        problems: &mut Vec<config::Diagnostic>,
    ) -> Self {
        let terms = written.backends.iter();
        let terms = terms.map(|one| Arc::new(MemberConfig::new(one, written, problems)));
        let members = PoolMembers::new(terms.collect(), backends);
        Pool {
            name: name.into(),
            members: ArcSwap::from_pointee(members),
            balance: Balancer::new(written),
            sticky: StickyStrategy::new(written.sticky, name),
            health: written.health.value.clone(),
            all_down: written.all_down,
            admission: Arc::new(AdmissionQueue::new()),
            queue: written.admission.queue as usize,
            wait: written.admission.wait.0,
            retry: written.retry,
            slow_start: written.slow_start.0,
            rebalance: written.rebalance,
            rng: Rng::new(),
        }
    }

    /// The same in the place of `before`: with its queue, which hears of nothing new until [`Pool::commit`], knowing what DNS
    /// has said, and the clients that it has known if both are sticky in the same way. Backends that nobody had yet start
    /// slowly.
    pub fn succeed(self, before: Option<&Pool>, backends: &mut Backends) -> Self {
        let Some(before) = before else {
            // Where all are new there is nobody who could take more meanwhile, and nobody waits.
            self.commit();
            return self;
        };
        let members = Arc::into_inner(self.members.into_inner()).expect("nobody else has it yet");
        let members = members.after(&before.members.load(), backends);
        for entry in members.entries() {
            if entry.backend.is_new() {
                entry.backend.start_slow(Instant::now());
            }
        }
        Pool {
            members: ArcSwap::from_pointee(members),
            sticky: self.sticky.after(&before.sticky),
            admission: before.admission.clone(),
            ..self
        }
    }

    /// Its name.
    pub fn name(&self) -> &Arc<str> {
        &self.name
    }

    /// Those of its backends that may be chosen, in the order written.
    pub fn backends(&self) -> Vec<Arc<Backend>> {
        let members = self.members.load();
        let entries = members.entries().iter();
        entries.map(|entry| entry.backend.clone()).collect()
    }

    /// Whether one of its backends takes what is new, if it has a place.
    pub fn takes_sessions(&self) -> bool {
        let try_down = self.all_down == config::AllDown::Try;
        let members = self.members.load();
        let mut entries = members.entries().iter();
        entries.any(|entry| {
            !entry.backend.is_draining() && (try_down || entry.backend.health().is_up())
        })
    }

    /// Whether there is a choice.
    pub fn has_several(&self) -> bool {
        self.members.load().entries().len() > 1
    }

    /// How its backends are checked.
    pub fn health(&self) -> &config::Health {
        &self.health
    }

    /// What the watch over each of its backends needs.
    pub fn probes(&self) -> Vec<HealthCheck> {
        let members = self.members.load();
        let probe = |entry| HealthCheck::new(&self.name, entry, &self.health, self.slow_start);
        members.entries().iter().map(probe).collect()
    }

    /// What a request's backend is found by, for [`Pool::acquire`]: nothing, unless this pool chooses by hash or is sticky.
    pub fn key(
        &self,
        headers: &HeaderMap,
        path: &str,
        query: Option<&str>,
        client: IpAddr,
    ) -> BalanceKey {
        let by = self.balance.hash_key();
        let key = by.map_or_else(BalanceKey::default, |by| {
            BalanceKey::of(by, headers, path, query, client)
        });
        key.bound_to(self.sticky.bound(headers, query))
    }

    /// The `Set-Cookie` with which the client comes back to where it was served, unless it has it already.
    pub fn cookie(&self, key: BalanceKey, lease: &Lease) -> Option<HeaderValue> {
        let seed = lease.seed();
        match key.bound() {
            Some(bound) if bound.seed == seed => None,
            _ => self.sticky.cookie(seed),
        }
    }

    /// Who is to see the first bytes of the answer to a request with this query.
    pub fn sid_capture(&self, query: Option<&str>, lease: &Lease) -> Option<SidCapture> {
        self.sticky.learner(query, lease.seed())
    }

    /// A place on the backend that it is the turn of, those in `tried` left out: at once, or in the order in which those
    /// came who wait, until `deadline` or for as long as this pool has them wait.
    pub async fn acquire(
        &self,
        key: BalanceKey,
        client: IpAddr,
        tried: &[Arc<Backend>],
        deadline: Instant,
    ) -> Result<Lease, Unavailable> {
        if self.admission.is_idle()
            && let Ok(lease) = self.pick(key, tried)
        {
            return Ok(lease);
        }
        let wish = QueueRequest {
            client,
            tried,
            only: self.only(key, tried),
            queue: self.queue,
        };
        match self.admission.enter(wish, || self.pick(key, tried))? {
            Admitted::Lease(lease) => Ok(lease),
            Admitted::Queued(waiting) => {
                let until = deadline.min(Instant::now() + self.wait);
                // Boxed, or all who need not wait would carry the room for it about.
                Box::pin(waiting.wait(until)).await
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

    /// How this backend stands here: one of [`Pool::backends`].
    pub fn state(&self, backend: &Backend, now: Instant) -> BackendState {
        backend.state(now, self.slow_start)
    }

    /// Whether this backend gets only a part of what is new.
    pub fn is_warming(&self, backend: &Backend, now: Instant) -> bool {
        backend.warmth(now, self.slow_start).is_some()
    }

    /// Its backends and their ceilings are in force for those who wait, too.
    pub fn commit(&self) {
        let try_down = self.all_down == config::AllDown::Try;
        self.admission
            .set_members(self.members.load().entries(), try_down);
    }
}

// === impl Unavailable ===

impl Unavailable {
    /// A word of a closed set, for logs and metric labels.
    pub fn as_str(self) -> &'static str {
        match self {
            Unavailable::None => "no-backend",
            Unavailable::Full => "backends-full",
            Unavailable::Unresolved => "backends-unresolved",
            Unavailable::Down => "backends-down",
            Unavailable::Draining => "backends-draining",
            Unavailable::QueueFull => "queue-full",
            Unavailable::QueueShare => "queue-share",
            Unavailable::QueueWait => "queue-wait",
        }
    }

    /// Whether there were backends, and only no places.
    pub fn is_full(self) -> bool {
        use Unavailable::{Down, Draining, None, Unresolved};
        !matches!(self, None | Unresolved | Down | Draining)
    }
}

#[cfg(test)]
mod tests;
