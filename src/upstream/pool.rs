//! A named set of members, and the selection among them.

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

/// A named set of members; it has none only while DNS returns none.
#[derive(Debug)]
pub struct Pool {
    name: Arc<str>,
    /// The current members; replaced when DNS returns others.
    members: ArcSwap<PoolMembers>,
    balance: Balancer,
    sticky: StickyStrategy,
    health: config::Health,
    all_down: config::AllDown,
    /// Shared by all configurations that have a pool of this name.
    admission: Arc<AdmissionQueue>,
    /// The maximum length of the queue.
    queue: usize,
    /// The maximum time in the queue.
    wait: Duration,
    retry: config::Retry,
    slow_start: Duration,
    rebalance: config::Rebalance,
    /// The source of randomness for skipping members in slow start.
    rng: Rng,
}

/// Why no lease is available.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Unavailable {
    /// All members have been tried.
    #[error("no backend is available")]
    None,
    /// Every member has reached a limit on sessions, requests or handshakes (`max_sessions`, `admission.handshakes`).
    #[error("all backends are full")]
    Full,
    /// DNS returns no backend.
    #[error("DNS returns no backend")]
    Unresolved,
    /// All members are down or ejected (`all_down = "refuse"`).
    #[error("all backends are down")]
    Down,
    /// All members are draining.
    #[error("all backends are draining")]
    Draining,
    /// The members are full, and the queue is too (`admission.queue`).
    #[error("all backends are full, and the admission queue is too")]
    QueueFull,
    /// The members are full, and this client is at its limit in the queue.
    #[error("all backends are full, and this client has too many queued requests")]
    QueueShare,
    /// No capacity became free in time (`admission.wait`).
    #[error("all backends were full until the wait ended")]
    QueueWait,
}

// === impl Pool ===

impl Pool {
    /// Creates a pool as configured, with the existing backends of `backends` where possible. Errors in files are added
    /// to `diagnostics`.
    pub fn new(
        name: &str,
        config: &config::Pool,
        backends: &mut Backends,
        diagnostics: &mut Vec<config::Diagnostic>,
    ) -> Self {
        let member_configs = config.backends.iter();
        let member_configs =
            member_configs.map(|one| Arc::new(MemberConfig::new(one, config, diagnostics)));
        let members = PoolMembers::new(member_configs.collect(), backends);
        Pool {
            name: name.into(),
            members: ArcSwap::from_pointee(members),
            balance: Balancer::new(config),
            sticky: StickyStrategy::new(config.sticky, name),
            health: config.health.value.clone(),
            all_down: config.all_down,
            admission: Arc::new(AdmissionQueue::new()),
            queue: config.admission.queue as usize,
            wait: config.admission.wait.0,
            retry: config.retry,
            slow_start: config.slow_start.0,
            rebalance: config.rebalance,
            rng: Rng::new(),
        }
    }

    /// Creates the pool that replaces `before`. It takes over the queue, whose members change with [`Pool::commit`];
    /// the DNS answers; and the affinity state if both have the same `sticky`. New backends begin with slow start.
    pub fn succeed(self, before: Option<&Pool>, backends: &mut Backends) -> Self {
        let Some(before) = before else {
            // No slow start: if all backends are new, no other can take the load in the meantime.
            self.commit();
            return self;
        };
        let members = Arc::into_inner(self.members.into_inner())
            .expect("the new pool holds the only reference");
        let members = members.after(&before.members.load(), backends);
        for member in members.current() {
            if member.backend.is_new() {
                member.backend.start_slow(Instant::now());
            }
        }
        Pool {
            members: ArcSwap::from_pointee(members),
            sticky: self.sticky.after(&before.sticky),
            admission: before.admission.clone(),
            ..self
        }
    }

    /// Returns its name.
    pub fn name(&self) -> &Arc<str> {
        &self.name
    }

    /// Returns the backends of the members that are configured or in DNS, in the configured order.
    pub fn backends(&self) -> Vec<Arc<Backend>> {
        let members = self.members.load();
        let current = members.current().iter();
        current.map(|member| member.backend.clone()).collect()
    }

    /// Returns whether `backend` is one of [`Pool::backends`], without a list of them.
    pub fn has_backend(&self, backend: &Arc<Backend>) -> bool {
        let members = self.members.load();
        let mut current = members.current().iter();
        current.any(|member| Arc::ptr_eq(&member.backend, backend))
    }

    /// Returns whether one of its members accepts new sessions and requests, capacity permitting.
    pub fn takes_sessions(&self) -> bool {
        let try_down = self.all_down == config::AllDown::Try;
        let members = self.members.load();
        let mut current = members.current().iter();
        current.any(|member| {
            !member.backend.is_draining() && (try_down || member.backend.health().is_up())
        })
    }

    /// Returns whether it has more than one member.
    pub fn has_several(&self) -> bool {
        self.members.load().current().len() > 1
    }

    /// Returns the settings of its health checks.
    pub fn health(&self) -> &config::Health {
        &self.health
    }

    /// Returns the health check of each member.
    pub fn probes(&self) -> Vec<HealthCheck> {
        let members = self.members.load();
        let check = |member| HealthCheck::new(&self.name, member, &self.health, self.slow_start);
        members.current().iter().map(check).collect()
    }

    /// Returns the key of a request for [`Pool::acquire`]; empty unless this pool balances by hash or is sticky.
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

    /// Returns the `Set-Cookie` that binds the client to its backend, unless the request had it already.
    pub fn cookie(&self, key: BalanceKey, lease: &Lease) -> Option<HeaderValue> {
        let id_hash = lease.id_hash();
        match key.bound() {
            Some(bound) if bound.id_hash == id_hash => None,
            _ => self.sticky.cookie(id_hash),
        }
    }

    /// Returns the capture for the first bytes of the response to a request with this query, if there is a `sid` to
    /// capture.
    pub fn sid_capture(&self, query: Option<&str>, lease: &Lease) -> Option<SidCapture> {
        self.sticky.sid_capture(query, lease.id_hash())
    }

    /// Acquires a lease on the member that the balancer selects, except those in `tried`. If all are full, waits in the
    /// admission queue until `deadline`, at most for `admission.wait`.
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
        let request = QueueRequest {
            client,
            tried,
            only: self.only(key, tried),
            queue: self.queue,
        };
        match self.admission.enter(request, || self.pick(key, tried))? {
            Admitted::Lease(lease) => Ok(lease),
            Admitted::Queued(waiting) => {
                let until = deadline.min(Instant::now() + self.wait);
                // Boxed, so that the futures of requests that need not wait stay small.
                Box::pin(waiting.wait(until)).await
            }
        }
    }

    /// Returns the number of queued requests.
    pub fn waiting(&self) -> usize {
        self.admission.waiting()
    }

    /// Returns which failures are retried, and how often.
    pub fn retry(&self) -> config::Retry {
        self.retry
    }

    /// Returns the state of this backend in this pool; it must be one of [`Pool::backends`].
    pub fn state(&self, backend: &Backend, now: Instant) -> BackendState {
        backend.state(now, self.slow_start)
    }

    /// Returns whether this backend is in slow start.
    pub fn is_warming(&self, backend: &Backend, now: Instant) -> bool {
        backend.slow_start_factor(now, self.slow_start).is_some()
    }

    /// Puts the members and their limits into effect for queued requests.
    pub fn commit(&self) {
        let try_down = self.all_down == config::AllDown::Try;
        self.admission
            .set_members(self.members.load().current(), try_down);
    }
}

// === impl Unavailable ===

impl Unavailable {
    /// Returns the word of a closed set, for logs and metric labels.
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

    /// Returns whether there were eligible members, but none with free capacity.
    pub fn is_full(self) -> bool {
        use Unavailable::{Down, Draining, None, Unresolved};
        !matches!(self, None | Unresolved | Down | Draining)
    }
}

#[cfg(test)]
mod tests;
