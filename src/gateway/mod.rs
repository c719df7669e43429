//! The gateway: the immutable runtime form of a configuration. Each request uses one snapshot of it. The runtime form
//! of a route is in `route.rs`; status and drains by name are in `status.rs`.

pub(crate) mod route;
pub(crate) mod status;

use crate::{
    config::{self, ClientCert, Config, Diagnostic, Diagnostics, DnsName, HostPattern, Located},
    gateway::route::Route,
    guard::{authorization::AuthServices, identity::IdentityGuard, jwt::JwtGuard},
    net::dns::DnsAnswer,
    proto::forwarded,
    registry::SessionTarget,
    router::{Router, rule::Rule},
    tls::{
        acme,
        certs::{CertIssuers, Certificates},
        server_config::TlsServer,
    },
    upstream::{
        backend::{Backend, Backends},
        health::state::Condition,
        membership::MembershipChange,
        pool::Pool,
    },
};
use ::http::HeaderMap;
use arc_swap::ArcSwap;
use std::{
    collections::{BTreeMap, HashMap},
    net::IpAddr,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};
use tokio::time::Instant;

/// The settings and objects that connections and requests use, built from one [`Config`].
#[derive(Debug)]
pub struct Gateway {
    /// Limits and deadlines of connections.
    pub limits: config::Limits,
    /// Whether connections begin with a PROXY header.
    pub proxy_protocol: config::ProxyProtocol,
    /// Whether HTTP/2 connections may carry WebSockets.
    pub h2_websocket: bool,
    /// The TLS settings towards clients.
    pub tls: TlsServer,
    /// The certificates that are presented to clients.
    pub certificates: Arc<Certificates>,
    /// Selects the route of a request.
    pub router: Router<Route>,
    /// How sessions are closed that must close.
    pub drain: config::Drain,
    trusted: Vec<config::Cidr>,
    /// The backends of this configuration and of previous ones.
    backends: Arc<Mutex<Backends>>,
    pools: Vec<Arc<Pool>>,
    guards: BTreeMap<String, Arc<IdentityGuard>>,
    /// The pool of each route, by the name of the route.
    pools_by_route: HashMap<Arc<str>, Arc<Pool>>,
}

/// The cell that holds the current gateway; a reload replaces its content.
#[derive(Debug)]
pub(crate) struct Live(ArcSwap<Gateway>);

// === impl Gateway ===

impl Gateway {
    /// Reads the files that the configuration names, and starts nothing: `check`, `run` and reload share it. Takes over
    /// from `previous` what both have: backends with their leases, the channels of session limits, ticket keys. Nothing
    /// of `previous` changes before [`Gateway::commit`].
    pub fn build(
        config: &Config,
        previous: Option<&Gateway>,
        issuers: &CertIssuers<'_>,
    ) -> Result<Gateway, Diagnostics> {
        let mut diagnostics = Vec::new();
        let located = |at, host: &HostPattern| Located {
            value: host.clone(),
            at,
        };
        // Proxies that terminate TLS have the certificates, and there may be no other listener.
        let has_tls = !config.server.https.is_empty() || config.server.cleartext.is_empty();
        let hosts: Vec<Located<HostPattern>> = config
            .routes
            .iter()
            .filter(|_| has_tls)
            .flat_map(|route| route.hosts.iter().map(|host| located(route.at, host)))
            .collect();
        let acme = acme::acme_names(config);
        if let Some(section) = &config.acme {
            acme::files::check(section, config.place("acme"), &mut diagnostics);
        }
        let certificates = Certificates::build(
            &config.tls,
            &hosts,
            acme.as_ref(),
            issuers,
            &mut diagnostics,
        );
        let certificates = Arc::new(certificates);
        let client_auth_hosts = config
            .routes
            .iter()
            .filter(|route| route.client_cert != ClientCert::Off)
            .flat_map(|route| &route.hosts);
        let tls = TlsServer::build(
            &config.tls,
            client_auth_hosts,
            certificates.clone(),
            issuers.issued.clone(),
            previous.map(|previous| &previous.tls),
            &mut diagnostics,
        );
        // Before the lock, which the control loop needs for DNS answers: a file may be on a disk that hangs.
        let mut members: BTreeMap<&str, _> = BTreeMap::new();
        for (name, pool) in &config.pools {
            members.insert(name, Pool::read_members(pool, &mut diagnostics));
        }
        let mut guards = BTreeMap::new();
        for (name, guard) in &config.guards {
            let before = previous.and_then(|previous| previous.guards.get(name));
            let before = before.map(|guard| &**guard);
            let built = IdentityGuard::build(name, guard, before, &mut diagnostics);
            guards.extend(built.map(|guard| (name.clone(), Arc::new(guard))));
        }
        let shared_backends = previous.map(|previous| previous.backends.clone());
        let shared_backends: Arc<Mutex<Backends>> = shared_backends.unwrap_or_default();
        let mut backends = shared_backends
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        let pool_before = |name: &str| {
            let mut pools = previous?.pools.iter();
            pools
                .find(|pool| **pool.name() == *name)
                .map(|pool| &**pool)
        };
        let rules_before = previous
            .into_iter()
            .flat_map(|previous| previous.router.rules());
        let routes_before: HashMap<&str, &Route> = rules_before
            .map(|(_, route)| (&*route.name, route))
            .collect();
        let mut named_pools: BTreeMap<&str, Arc<Pool>> = BTreeMap::new();
        for (name, pool) in &config.pools {
            let members = members.remove(&**name).unwrap_or_default();
            let pool = Pool::with_members(name, pool, members, &mut backends);
            named_pools.insert(
                name,
                Arc::new(pool.carry_over(pool_before(name), &mut backends)),
            );
        }
        let mut pools: Vec<Arc<Pool>> = named_pools.values().cloned().collect();
        let mut routes = Vec::new();
        for route in &config.routes {
            let listed = route.guards.iter();
            // `check` has reported a name without a guard.
            let listed = listed.filter_map(|name| guards.get(&name.value).cloned());
            let pool = match (&route.pool, &route.to) {
                (Some(name), _) => named_pools.get(name.as_str()).cloned(),
                (None, Some(to)) => {
                    let single = config::Pool::of(to);
                    // A named pool of the same name has the queue of the previous pool: two pools cannot share one.
                    let is_taken = config.pools.contains_key(&*route.name.value);
                    let before = pool_before(&route.name).filter(|_| !is_taken);
                    let pool = Pool::new(&route.name, &single, &mut backends, &mut diagnostics);
                    let pool = Arc::new(pool.carry_over(before, &mut backends));
                    pools.push(pool.clone());
                    Some(pool)
                }
                (None, None) => None,
            };
            match pool {
                Some(pool) => routes.push((
                    Rule::from(&route.value),
                    Route::new(
                        route,
                        config,
                        pool,
                        listed.collect(),
                        routes_before.get(&*route.name.value).copied(),
                    ),
                )),
                None => diagnostics.push(Diagnostic {
                    at: route.at,
                    message: format!("route `{}` has no target", route.name.value),
                    hint: Some(
                        "give it `pool`, the name of one of [pools], or `to`, an address".into(),
                    ),
                }),
            }
        }
        let pools_by_route = routes
            .iter()
            .map(|(_, route): &(Rule, Route)| (route.name.clone(), route.pool.clone()))
            .collect();
        drop(backends);
        match tls {
            Some(tls) if diagnostics.is_empty() => Ok(Gateway {
                limits: config.limits.clone(),
                proxy_protocol: config.server.proxy_protocol,
                h2_websocket: config.server.h2_websocket,
                tls,
                certificates,
                router: Router::new(routes),
                drain: config.drain.clone(),
                trusted: config.server.trusted_proxies.clone(),
                backends: shared_backends,
                pools,
                guards,
                pools_by_route,
            }),
            _ => Err(Diagnostics::new(config.sources.clone(), diagnostics)),
        }
    }

    /// Starts the slow start of new backends, and applies the limits of its pools to queued requests, and those of its
    /// routes to live sessions, which use them from the next frame on.
    pub fn commit(&self) {
        let now = Instant::now();
        self.pools.iter().for_each(|it| it.start_new_backends(now));
        self.pools.iter().for_each(|it| it.commit());
        for (_, route) in self.router.rules() {
            route.limits.send_if_modified(|limits| {
                let has_changed = *limits != route.pending_limits;
                *limits = route.pending_limits;
                has_changed
            });
        }
    }

    /// Starts what its guards need before their first request.
    pub(crate) fn start_guards(&self, services: &AuthServices) {
        for guard in self.guards.values() {
            guard.start(services);
        }
    }

    /// Returns whether a guard has this `refresh_path`, on whichever host.
    pub(crate) fn is_refresh_path(&self, path: &str) -> bool {
        let mut guards = self.guards.values().filter_map(|guard| guard.jwt());
        guards.any(|guard| guard.refreshes_at(path))
    }

    /// Returns the first route of `host` with a guard that has this `refresh_path`, and the guard.
    pub(crate) fn refresh_target(&self, host: &str, path: &str) -> Option<(&Route, &JwtGuard)> {
        let mut rules = self.router.rules();
        rules.find_map(|(rule, route)| {
            let mut guards = route.guards.iter().filter_map(|guard| guard.jwt());
            let guard = guards.find(|guard| guard.refreshes_at(path))?;
            rule.covers_host(host).then_some((route, guard))
        })
    }

    /// Returns the longest `session.close_timeout` of its routes: the time that the last session needs for its closing
    /// handshake.
    pub fn max_close_timeout(&self) -> Duration {
        let routes = self.router.rules();
        let timeouts = routes.map(|(_, route)| route.pending_limits.close_timeout);
        timeouts.max().unwrap_or_default()
    }

    /// Returns its pools, including those of routes with `to`.
    pub fn pools(&self) -> impl Iterator<Item = &Arc<Pool>> {
        self.pools.iter()
    }

    /// Returns whether a session must close because `backend` is its backend, is down, and its pool has
    /// `on_down = "drain"`.
    pub fn must_drain(&self, session: &SessionTarget, backend: &Arc<Backend>) -> bool {
        let pool = self.pools_by_route.get(&session.route);
        session.backend == *backend.name()
            && pool.is_some_and(|pool| {
                pool.health().on_down == config::OnDown::Drain
                    && backend.health().condition().0 == Condition::Down
                    && pool.has_backend(backend)
            })
    }

    /// Returns whether `address` is a trusted proxy.
    pub fn trusts(&self, address: IpAddr) -> bool {
        self.trusted.iter().any(|network| network.contains(address))
    }

    /// Returns the client's address: `peer`, or the address that the trusted proxies in front of Lockgate report.
    /// `peer` is the other end of the connection, or the address in its PROXY header.
    pub fn client_addr(&self, headers: &HeaderMap, peer: IpAddr) -> IpAddr {
        forwarded::client(headers, peer, |address| self.trusts(address))
    }

    /// Returns every name to query, with the maximum interval between two queries.
    pub fn dns_names(&self) -> BTreeMap<DnsName, Duration> {
        let mut names = BTreeMap::new();
        for (name, interval) in self.pools.iter().flat_map(|pool| pool.names()) {
            let shortest = names.entry(name).or_insert(interval);
            *shortest = interval.min(*shortest);
        }
        names
    }

    /// Applies the DNS answer for `name` to all pools that contain it; `None`: DNS has no answer. Must not be called
    /// concurrently.
    pub fn apply_dns_answer(&self, name: &DnsName, answer: Option<&DnsAnswer>) -> MembershipChange {
        let mut backends = self.backends.lock().unwrap_or_else(PoisonError::into_inner);
        let has = |names: Vec<(DnsName, _)>| names.iter().any(|(own, _)| own == name);
        let mut all = MembershipChange::default();
        let changing: Vec<_> = self.pools.iter().filter(|it| has(it.names())).collect();
        for pool in &changing {
            let change = pool.apply_answer(name, answer, &mut backends);
            all.added.extend(change.added);
            all.removed.extend(change.removed);
            all.first |= change.first;
        }
        // Afterwards, because a backend of several pools is new for each of them.
        changing.iter().for_each(|pool| pool.commit());
        all
    }

    /// Returns whether a session may stay: its route exists, and the pool of the route has its backend, or has its pool
    /// entry and keeps sessions of backends that are removed from DNS.
    pub fn may_keep(&self, session: &SessionTarget) -> bool {
        let pool = self.pools_by_route.get(&session.route);
        pool.is_some_and(|pool| pool.may_keep(&session.backend, &session.pool_entry))
    }

    /// Returns every backend that may have leases, once for each of its pools.
    fn all_backends(&self) -> Vec<Arc<Backend>> {
        let of_pool = |pool: &Arc<Pool>| [pool.backends(), pool.vanished()].concat();
        self.pools.iter().flat_map(of_pool).collect()
    }

    /// Returns the pool of this name if its sessions are rebalanced.
    pub fn rebalancing_pool(&self, name: &str) -> Option<&Arc<Pool>> {
        let mut pools = self.pools.iter();
        // The pool of a route with `to` may have the same name; it has no rebalancing.
        pools.find(|pool| **pool.name() == *name && pool.rebalance().is_some())
    }

    /// Returns whether a session was routed to this pool.
    pub fn uses_pool(&self, pool: &Arc<Pool>, session: &SessionTarget) -> bool {
        let own = self.pools_by_route.get(&session.route);
        own.is_some_and(|own| Arc::ptr_eq(own, pool))
    }
}

// === impl Live ===

impl Live {
    /// Creates the cell with the first gateway.
    pub(crate) fn new(gateway: Gateway) -> Self {
        Live(ArcSwap::from_pointee(gateway))
    }

    /// Returns the current gateway. Called once per connection and once per request.
    pub(crate) fn snapshot(&self) -> Arc<Gateway> {
        self.0.load_full()
    }

    /// Replaces the gateway. Requests that begin from now on use the new one.
    pub(crate) fn replace(&self, gateway: Arc<Gateway>) {
        self.0.store(gateway);
    }
}
