//! A named set of members: [`Pool::acquire`] selects one of them for a request.

use crate::{
    config::{self, DnsName},
    net::{
        dns::DnsAnswer,
        random,
        subnet::{PackedSubnet, SubnetKey},
    },
    upstream::{
        backend::{Backend, BackendState, Backends},
        balance::{Balancer, Eligible},
        balance_key::BalanceKey,
        fair_share::{LoadShare, MemberLoad, shares},
        health::{check::HealthCheck, state::HealthTier},
        lease::Lease,
        member::{Member, MemberConfig, eligible_tier},
        membership::{MembershipChange, PoolMembers},
        queue::{AdmissionQueue, Admitted, QueueRequest},
        sticky::{SidCapture, StickyStrategy},
        unavailable::Unavailable,
    },
};
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
    queue_limit: usize,
    /// The maximum time in the queue.
    wait: Duration,
    retry: config::Retry,
    slow_start: Duration,
    /// Whether new backends begin with slow start. Not in a pool without a predecessor: if all backends are new, no
    /// other can take the load in the meantime.
    starts_slowly: bool,
    rebalance: config::Rebalance,
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
        let members = Pool::read_members(config, diagnostics);
        Pool::with_members(name, config, members, backends)
    }

    /// Reads the files that the backends of a pool name. Errors are added to `diagnostics`.
    pub(crate) fn read_members(
        config: &config::Pool,
        diagnostics: &mut Vec<config::Diagnostic>,
    ) -> Vec<Arc<MemberConfig>> {
        let backends = config.backends.iter();
        let members = backends.map(|one| Arc::new(MemberConfig::new(one, config, diagnostics)));
        members.collect()
    }

    /// Creates a pool as [`Pool::new`] does, with the members of [`Pool::read_members`].
    pub(crate) fn with_members(
        name: &str,
        config: &config::Pool,
        members: Vec<Arc<MemberConfig>>,
        backends: &mut Backends,
    ) -> Self {
        let members = PoolMembers::new(members, backends);
        Pool {
            name: name.into(),
            members: ArcSwap::from_pointee(members),
            balance: Balancer::new(config),
            sticky: StickyStrategy::new(config.sticky, name),
            health: config.health.value.clone(),
            all_down: config.all_down,
            admission: Arc::new(AdmissionQueue::new()),
            queue_limit: config.admission.queue as usize,
            wait: config.admission.wait.0,
            retry: config.retry,
            slow_start: config.slow_start.0,
            starts_slowly: false,
            rebalance: config.rebalance,
        }
    }

    /// Creates the pool that replaces `before`. It takes over the queue, whose members change with [`Pool::commit`];
    /// the DNS answers; and the affinity state if both have the same `sticky`.
    pub fn carry_over(self, before: Option<&Pool>, backends: &mut Backends) -> Self {
        let Some(before) = before else {
            return self;
        };
        let members = Arc::into_inner(self.members.into_inner())
            .expect("the new pool holds the only reference");
        let members = members.after(&before.members.load(), backends);
        Pool {
            members: ArcSwap::from_pointee(members),
            sticky: self.sticky.after(&before.sticky),
            admission: before.admission.clone(),
            starts_slowly: true,
            ..self
        }
    }

    /// Returns the pool's name.
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

    /// Returns whether it has a member other than `current` and those in `tried` that is not draining.
    pub(crate) fn has_other(&self, current: &Arc<Backend>, tried: &[Arc<Backend>]) -> bool {
        let members = self.members.load();
        serving(members.current()).any(|member| {
            let is_it = |backend: &Arc<Backend>| Arc::ptr_eq(backend, &member.backend);
            !is_it(current) && !tried.iter().any(is_it)
        })
    }

    /// Returns the settings of its health checks.
    pub fn health(&self) -> &config::Health {
        &self.health
    }

    /// Returns the health check of each member.
    pub fn health_checks(&self) -> Vec<HealthCheck> {
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

    /// Returns the capture for the first bytes of the response to a request of `client` with this query, if there is a
    /// `sid` to capture.
    pub fn sid_capture(
        &self,
        query: Option<&str>,
        lease: &Lease,
        client: IpAddr,
    ) -> Option<SidCapture> {
        self.sticky.sid_capture(query, lease.id_hash(), client)
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
        let packed = SubnetKey::of(client).pack();
        if self.admission.is_idle()
            && let Ok(lease) = self.pick(key, tried, packed)
        {
            return Ok(lease);
        }
        let request = QueueRequest {
            client,
            tried,
            only: self.only(key, tried),
            queue_limit: self.queue_limit,
        };
        match self
            .admission
            .enter(request, || self.pick(key, tried, packed))?
        {
            Admitted::Lease(lease) => Ok(lease),
            Admitted::Queued(ticket) => {
                let until = deadline.min(Instant::now() + self.wait);
                // Boxed, so that the futures of requests that need not wait stay small.
                Box::pin(ticket.wait(until)).await
            }
        }
    }

    /// Returns the number of queued requests.
    pub fn queue_len(&self) -> usize {
        self.admission.queue_len()
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

    /// Starts the slow start of each backend that has not been in an active configuration. Must precede the
    /// [`Pool::commit`] of every pool, after which no backend is new.
    pub fn start_new_backends(&self, now: Instant) {
        if !self.starts_slowly {
            return;
        }
        for member in self.members.load().current() {
            if member.backend.is_new() {
                member.backend.start_slow(now);
            }
        }
    }

    /// Puts the members and their limits into effect for queued requests.
    pub fn commit(&self) {
        let members = self.members.load();
        let try_down = self.all_down == config::AllDown::Try;
        self.admission.set_members(members.current(), try_down);
        if members.current().is_empty() && !members.awaits_dns() {
            self.admission.reject_all();
        }
    }

    /// Returns the names to resolve, and the maximum interval between queries.
    pub fn names(&self) -> Vec<(DnsName, Duration)> {
        let members = self.members.load();
        let names = members.named().filter_map(|config| config.dns());
        names
            .map(|(name, interval)| (name.clone(), interval))
            .collect()
    }

    /// Applies the DNS answer for `name`: added members become eligible, removed ones do not stay eligible. `None`: DNS
    /// has no answer, and the pool does not wait for it any longer. Queued requests wait for [`Pool::commit`].
    ///
    /// Must not be called concurrently.
    pub fn apply_answer(
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
        self.members.store(Arc::new(next));
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

    /// Returns the `Host` of each member that has one, with the address or the DNS name.
    pub fn hosts(&self) -> Vec<(String, String)> {
        let members = self.members.load();
        let current = members.current().iter();
        let current = current.map(|member| (member.backend.name().to_string(), &*member.config));
        let named = members
            .named()
            .map(|config| (config.pool_entry.to_string(), config));
        let host = |host: &HeaderValue| String::from_utf8_lossy(host.as_bytes()).into_owned();
        current
            .chain(named)
            .filter_map(|(name, config)| Some((name, host(config.host.as_ref()?))))
            .collect()
    }

    /// Returns the interval between two closes for rebalancing; `None`: rebalancing is off.
    pub fn rebalance(&self) -> Option<Duration> {
        self.rebalance.gap()
    }

    /// Returns the load shares of the members that can accept sessions.
    pub fn load_shares(&self, now: Instant) -> Vec<LoadShare> {
        let members = self.members.load();
        let available = serving(members.current());
        let available: Vec<&Member> = available.filter(|member| member.is_up()).collect();
        let loads: Vec<MemberLoad> = available.iter().map(|member| member.load()).collect();
        let load_share = |((member, load), share): ((&Member, &MemberLoad), u64)| LoadShare {
            backend: member.backend.name().clone(),
            generation: member.backend.generation(),
            leases: load.leases,
            share,
            warming: self.is_warming(&member.backend, now),
        };
        let each = available.into_iter().zip(&loads).zip(shares(&loads));
        each.map(load_share).collect()
    }

    /// Returns a lease if a member has free capacity for `client`, regardless of the queue.
    pub(crate) fn pick(
        &self,
        key: BalanceKey,
        tried: &[Arc<Backend>],
        client: PackedSubnet,
    ) -> Result<Lease, Unavailable> {
        let members = self.members.load();
        let tier = self.tier(members.current(), tried);
        if let Some(excluded) = self.excluded(&members, key, tried)
            && let Ok(lease) = self.pick_among(&members, key, &excluded, client, tier)
        {
            return Ok(lease);
        }
        self.pick_among(&members, key, tried, client, tier)
    }

    /// Returns the least tier that is eligible: members that do not answer connects only if no other can serve the
    /// request, and unhealthy ones only if all are, as `all_down` configures.
    fn tier(&self, members: &[Arc<Member>], tried: &[Arc<Backend>]) -> HealthTier {
        let was_tried = |member: &Member| tried.iter().any(|one| Arc::ptr_eq(one, &member.backend));
        let can_serve = |member: &Member| {
            // A handshake in progress ends soon, a session does not.
            let has_capacity = if self.queue_limit > 0 {
                member.has_lease_capacity()
            } else {
                member.has_capacity()
            };
            has_capacity && !was_tried(member)
        };
        let try_down = self.all_down == config::AllDown::Try;
        eligible_tier(serving(members), try_down, can_serve)
    }

    /// Returns `tried` and the members in slow start that are skipped this time; `None` if none is skipped.
    fn excluded(
        &self,
        members: &PoolMembers,
        key: BalanceKey,
        tried: &[Arc<Backend>],
    ) -> Option<Vec<Arc<Backend>>> {
        if self.slow_start.is_zero() {
            return None;
        }
        let now = Instant::now();
        let is_excluded = |member: &&Arc<Member>| {
            // A request with an affinity is not new work.
            let is_bound = key
                .bound()
                .is_some_and(|bound| bound.id_hash == member.id_hash);
            let factor = member.backend.slow_start_factor(now, self.slow_start);
            !is_bound && factor.is_some_and(|factor| random::fraction() >= factor)
        };
        let excluded = members.current().iter().filter(is_excluded);
        let excluded: Vec<_> = excluded.map(|member| member.backend.clone()).collect();
        (!excluded.is_empty()).then(|| [tried, &excluded].concat())
    }

    /// Returns the `id_hash` of the only member that can serve this request, unless that was tried or does not answer.
    pub(crate) fn only(&self, key: BalanceKey, tried: &[Arc<Backend>]) -> Option<u64> {
        let bound = key.bound().filter(|bound| bound.only)?;
        let members = self.members.load();
        let mut current = members.current().iter();
        let own = current.find(|member| member.id_hash == bound.id_hash)?;
        let was_tried = tried.iter().any(|one| Arc::ptr_eq(one, &own.backend));
        let is_silent = own.backend.health().tier().is_silent();
        (!was_tried && !is_silent).then_some(bound.id_hash)
    }

    fn pick_among(
        &self,
        members: &PoolMembers,
        key: BalanceKey,
        tried: &[Arc<Backend>],
        client: PackedSubnet,
        tier: HealthTier,
    ) -> Result<Lease, Unavailable> {
        let current = members.current();
        let candidates = Eligible {
            members: current,
            tried,
            client,
            tier,
        };
        // A selected member may have become full in the meantime, hence several attempts.
        for _ in current {
            let Some(member) = self.balance.choose(candidates, key) else {
                break;
            };
            if let Some(lease) = Lease::acquire(member, client) {
                self.balance.record_choice(member);
                return Ok(lease);
            }
        }
        Err(why(members, candidates, self.queue_limit > 0))
    }
}

fn why(members: &PoolMembers, candidates: Eligible<'_>, may_wait: bool) -> Unavailable {
    let mut serving = serving(candidates.members);
    let includes_unhealthy = candidates.tier < HealthTier::SILENT;
    let is_usable = |member: &&Member| includes_unhealthy || member.is_up();
    let mut usable = serving.clone().filter(is_usable);
    // A member from an outstanding DNS answer may have capacity.
    if may_wait && members.awaits_dns()
        || usable.clone().any(|member| !candidates.was_tried(member))
    {
        return Unavailable::Full;
    }
    match (usable.next(), serving.next()) {
        (None, Some(_)) => Unavailable::Down,
        (None, None) if !candidates.members.is_empty() => Unavailable::Draining,
        (None, None) if members.is_unresolved() => Unavailable::Unresolved,
        _ => Unavailable::NoBackend,
    }
}

/// Returns the members whose backend is not draining.
pub(crate) fn serving(members: &[Arc<Member>]) -> impl Iterator<Item = &Member> + Clone {
    let members = members.iter().map(|member| &**member);
    members.filter(|member| !member.backend.is_draining())
}

#[cfg(test)]
mod tests;
