//! The immutable, built form of a config: what runs. One snapshot of it serves one request.

mod following;
mod operator;
mod places;
mod route;

pub use route::Route;

use crate::{
    config::{self, ClientCert, Config, Diagnostic, Diagnostics, HostPattern, Located},
    observe::SessionTarget,
    router::{Router, Rule},
    tls::{self, CertIssuers, Certificates, TlsServer},
    upstream::{Backend, Backends, Condition, Pool},
};
use arc_swap::ArcSwap;
use std::{
    collections::{BTreeMap, HashMap},
    net::IpAddr,
    sync::{Arc, Mutex, PoisonError},
};

/// All that a connection or a request needs to know, built once from a [`Config`] and never changed.
#[derive(Debug)]
pub struct Gateway {
    /// Ceilings and deadlines of connections.
    pub limits: config::Limits,
    /// Whether a PROXY header stands before TLS.
    pub proxy_protocol: config::ProxyProtocol,
    /// Whether HTTP/2 connections may carry WebSockets.
    pub h2_websocket: bool,
    /// The TLS termination.
    pub tls: TlsServer,
    /// What clients are shown.
    pub certificates: Arc<Certificates>,
    /// Where requests go.
    pub router: Router<Route>,
    /// How sessions are closed that must be.
    pub drain: config::Drain,
    trusted: Vec<config::Cidr>,
    /// All that there are, of this configuration and of those before it.
    backends: Arc<Mutex<Backends>>,
    pools: Vec<Arc<Pool>>,
    /// Each route's pool, by the route's name.
    pools_by_route: HashMap<Arc<str>, Arc<Pool>>,
}

/// The current gateway.
#[derive(Debug)]
pub struct Live(ArcSwap<Gateway>);

// === impl Gateway ===

impl Gateway {
    /// Reads the files that the config names and starts nothing: `check`, `run` and reload share it. What `previous` has
    /// and this one too stays the same: backends with their leases, the limits' receivers of sessions, ticket keys.
    /// Until [`Gateway::commit`] nothing of the previous one changes.
    pub fn build(
        config: &Config,
        previous: Option<&Gateway>,
        issuers: &CertIssuers<'_>,
    ) -> Result<Gateway, Diagnostics> {
        let mut problems = Vec::new();
        let placed = |at, host: &HostPattern| Located {
            value: host.clone(),
            at,
        };
        let hosts: Vec<Located<HostPattern>> = config
            .routes
            .iter()
            .flat_map(|route| route.hosts.iter().map(|host| placed(route.at, host)))
            .collect();
        let acme = tls::acme_names(config);
        if let Some(section) = &config.acme {
            tls::check_acme(section, config.place("acme"), &mut problems);
        }
        let certificates =
            Certificates::build(&config.tls, &hosts, acme.as_ref(), issuers, &mut problems);
        let certificates = Arc::new(certificates);
        let asking = config
            .routes
            .iter()
            .filter(|route| route.client_cert != ClientCert::Off)
            .flat_map(|route| &route.hosts);
        let tls = TlsServer::build(
            &config.tls,
            asking,
            certificates.clone(),
            issuers.issued.clone(),
            previous.map(|previous| &previous.tls),
            &mut problems,
        );
        let known = previous.map(|previous| previous.backends.clone());
        let known: Arc<Mutex<Backends>> = known.unwrap_or_default();
        let mut backends = known.lock().unwrap_or_else(PoisonError::into_inner);
        let before = |name: &str| {
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
        let mut named: BTreeMap<&str, Arc<Pool>> = BTreeMap::new();
        for (name, pool) in &config.pools {
            let pool = Pool::new(name, pool, &mut backends, &mut problems);
            named.insert(name, Arc::new(pool.succeed(before(name), &mut backends)));
        }
        let mut pools: Vec<Arc<Pool>> = named.values().cloned().collect();
        let mut routes = Vec::new();
        for route in &config.routes {
            let pool = match (&route.pool, &route.to) {
                (Some(name), _) => named.get(name.as_str()).cloned(),
                (None, Some(to)) => {
                    let alone = config::Pool::of(to);
                    // A pool of that name has taken over from the one of that name: two cannot share a queue.
                    let is_taken = config.pools.contains_key(&*route.name.value);
                    let before = before(&route.name).filter(|_| !is_taken);
                    let pool = Pool::new(&route.name, &alone, &mut backends, &mut problems);
                    let pool = Arc::new(pool.succeed(before, &mut backends));
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
                        routes_before.get(&*route.name.value).copied(),
                    ),
                )),
                None => problems.push(Diagnostic {
                    at: route.at,
                    message: format!("route `{}` leads nowhere", route.name.value),
                    hint: Some(
                        "give it `pool`, the name of one of [pools], or `to`, an address".into(),
                    ),
                }),
            }
        }
        let places = routes
            .iter()
            .map(|(_, route): &(Rule, Route)| (route.name.clone(), route.pool.clone()))
            .collect();
        drop(backends);
        match tls {
            Some(tls) if problems.is_empty() => Ok(Gateway {
                limits: config.limits.clone(),
                proxy_protocol: config.server.proxy_protocol,
                h2_websocket: config.server.h2_websocket,
                tls,
                certificates,
                router: Router::new(routes),
                drain: config.drain.clone(),
                trusted: config.server.trusted_proxies.clone(),
                backends: known,
                pools,
                pools_by_route: places,
            }),
            _ => Err(Diagnostics::new(config.sources.clone(), problems)),
        }
    }

    /// Puts the limits in force that its routes have, which live sessions obey from their next frame on, and those of its
    /// backends.
    pub fn commit(&self) {
        for pool in &self.pools {
            pool.commit();
        }
        for (_, route) in self.router.rules() {
            route.limits.send_if_modified(|limits| {
                let changes = *limits != route.pending_limits;
                *limits = route.pending_limits;
                changes
            });
        }
    }

    /// Its pools, those of routes with `to` among them.
    pub fn pools(&self) -> impl Iterator<Item = &Arc<Pool>> {
        self.pools.iter()
    }

    /// Whether a session must go because this, its backend, is down: its pool says `on_down = "drain"`.
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
}

// === impl Live ===

impl Live {
    /// Creates it with the first gateway.
    pub fn new(gateway: Gateway) -> Self {
        Live(ArcSwap::from_pointee(gateway))
    }

    /// Returns the current gateway. Called once per connection and once per request.
    pub fn snapshot(&self) -> Arc<Gateway> {
        self.0.load_full()
    }

    /// Puts another one in its place: from here on requests see that.
    pub fn replace(&self, gateway: Arc<Gateway>) {
        self.0.store(gateway);
    }
}
