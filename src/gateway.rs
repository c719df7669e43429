//! The immutable, built form of a config: what runs. One snapshot of it serves one request.

use crate::{
    config::{self, ClientCert, Config, HostPattern, Legs, Located, Problem, Problems},
    guard::{AddressGuard, OriginGuard},
    lifecycle::{BackendStatus, DrainTarget, RouteStatus},
    observe::Belonging,
    proto::track::Bounds,
    router::{Expectations, Router, Rule, expectations},
    splice::{Limits, PingPolicy},
    tls::{self, Certificates, Issuers, Termination},
    upstream::Pool,
};
use arc_swap::ArcSwap;
use std::{
    collections::{BTreeMap, HashMap},
    net::IpAddr,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};
use tokio::sync::watch;

/// All that a connection or a request needs to know, built once from a [`Config`] and never changed.
#[derive(Debug)]
pub struct Gateway {
    /// Ceilings and deadlines of connections.
    pub limits: config::Limits,
    /// Whether a PROXY header stands before TLS.
    pub proxy_protocol: config::ProxyProtocol,
    /// Whether HTTP/2 connections may carry WebSockets.
    pub h2_websocket: bool,
    /// How TLS is ended.
    pub tls: Termination,
    /// What clients are shown.
    pub certificates: Arc<Certificates>,
    /// Where requests go.
    pub router: Router<Route>,
    /// How sessions are closed that must be.
    pub drain: config::Drain,
    trusted: Vec<config::Cidr>,
    pools: Vec<Arc<Pool>>,
    /// Each route's pool, by the route's name.
    places: HashMap<Arc<str>, Arc<Pool>>,
}

/// What a route does with the requests it matched.
#[derive(Debug)]
pub struct Route {
    /// Its identity.
    pub name: Arc<str>,
    /// Where its backends are.
    pub pool: Arc<Pool>,
    /// What its sessions obey; one for all gateways that have a route of this name.
    pub limits: watch::Sender<Limits>,
    /// What they obey from the commit on.
    wanted: Limits,
    /// It takes no new sessions and requests, by an operator's order; one for all gateways, as above.
    pub draining: Arc<AtomicBool>,
    /// Dial, request and 101.
    pub handshake_timeout: Duration,
    /// Which clients may pass.
    pub addresses: AddressGuard,
    /// Whether clients show a certificate, and whether they must.
    pub client_cert: ClientCert,
    /// Which pages may open WebSockets.
    pub origins: OriginGuard,
    /// Taken off the path before forwarding.
    pub strip_prefix: Option<String>,
    /// What its backends want to be told.
    pub expectations: Expectations,
}

/// The gateway in force.
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
        issuers: &Issuers<'_>,
    ) -> Result<Gateway, Problems> {
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
        let tls = Termination::build(
            &config.tls,
            asking,
            certificates.clone(),
            issuers.shelf.clone(),
            previous.map(|previous| &previous.tls),
            &mut problems,
        );
        let before = |name: &str| {
            let mut pools = previous?.pools.iter();
            pools
                .find(|pool| &**pool.name() == name)
                .map(|pool| &**pool)
        };
        let named: BTreeMap<&str, Arc<Pool>> = config
            .pools
            .iter()
            .map(|(name, pool)| {
                (
                    &**name,
                    Arc::new(Pool::new(
                        name,
                        pool.backends.iter().map(|b| b.value.clone()),
                        before(name),
                    )),
                )
            })
            .collect();
        let mut pools: Vec<Arc<Pool>> = named.values().cloned().collect();
        let mut routes = Vec::new();
        for route in &config.routes {
            let pool = match (&route.pool, &route.to) {
                (Some(name), _) => named.get(name.as_str()).cloned(),
                (None, Some(to)) => {
                    let pool = Arc::new(Pool::new(
                        &route.name,
                        [to.value.clone()],
                        before(&route.name),
                    ));
                    pools.push(pool.clone());
                    Some(pool)
                }
                (None, None) => None,
            };
            match pool {
                Some(pool) => routes.push((
                    Rule::from(&route.value),
                    Route::new(route, config, pool, previous),
                )),
                None => problems.push(Problem {
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
                pools,
                places,
            }),
            _ => Err(Problems::new(config.sources.clone(), problems)),
        }
    }

    /// Puts the limits in force that its routes have: live sessions obey them from their next frame on.
    pub fn commit(&self) {
        for (_, route) in self.router.rules() {
            route.limits.send_if_modified(|limits| {
                let changes = *limits != route.wanted;
                *limits = route.wanted;
                changes
            });
        }
    }

    /// Whether a session may stay: its route is still there, and that route's pool still has its backend.
    pub fn keeps(&self, session: &Belonging) -> bool {
        let pool = self.places.get(&session.route);
        pool.is_some_and(|pool| {
            let mut backends = pool.backends().iter();
            backends.any(|backend| *backend.name() == session.backend)
        })
    }

    /// Whether `address` is a proxy whose word about clients is believed.
    pub fn trusts(&self, address: IpAddr) -> bool {
        self.trusted.iter().any(|network| network.contains(address))
    }

    /// Has a route, or a backend in all pools, take no new sessions and requests, or take them again; whether there is one.
    pub fn drain(&self, target: &DrainTarget, draining: bool) -> bool {
        match target {
            DrainTarget::Route(name) => {
                let mut routes = self.router.rules();
                let route = routes.find(|(_, route)| *route.name == **name);
                route
                    .inspect(|(_, route)| route.draining.store(draining, Ordering::Relaxed))
                    .is_some()
            }
            DrainTarget::Backend(address) => {
                let backends = self.pools.iter().flat_map(|pool| pool.backends());
                let named = backends.filter(|backend| **backend.name() == **address);
                named.inspect(|backend| backend.drain(draining)).count() > 0
            }
        }
    }

    /// Routes as `lockgate status` shows them.
    pub fn route_status(&self) -> Vec<RouteStatus> {
        let status = |(rule, route): (&Rule, &Route)| RouteStatus {
            name: route.name.to_string(),
            rule: rule.to_string(),
            pool: route.pool.name().to_string(),
            draining: route.draining.load(Ordering::Relaxed),
        };
        self.router.rules().map(status).collect()
    }

    /// Backends as `lockgate status` shows them.
    pub fn backend_status(&self) -> Vec<BackendStatus> {
        let of_pool = |pool: &Arc<Pool>| {
            let name = pool.name().to_string();
            let status = move |backend: &Arc<crate::upstream::Backend>| BackendStatus {
                pool: name.clone(),
                address: backend.name().to_string(),
                leases: backend.leases(),
                draining: backend.is_draining(),
            };
            pool.backends().iter().map(status).collect::<Vec<_>>()
        };
        self.pools.iter().flat_map(of_pool).collect()
    }
}

// === impl Route ===

impl Route {
    fn new(
        route: &config::Route,
        config: &Config,
        pool: Arc<Pool>,
        previous: Option<&Gateway>,
    ) -> Self {
        let session = config.session.with(&route.session);
        let wanted = limits(&session, &config.drain);
        let mut before = previous
            .into_iter()
            .flat_map(|gateway| gateway.router.rules());
        let before = before.find(|(_, before)| *before.name == *route.name.value);
        Route {
            name: route.name.as_str().into(),
            pool,
            limits: match before {
                Some((_, before)) => before.limits.clone(),
                None => watch::Sender::new(wanted),
            },
            draining: before.map_or_else(Arc::default, |(_, before)| before.draining.clone()),
            wanted,
            handshake_timeout: session.handshake_timeout.0,
            addresses: AddressGuard::new(&route.allow, &route.deny),
            client_cert: route.client_cert,
            origins: OriginGuard::new(&route.origins),
            strip_prefix: route.strip_prefix.clone(),
            expectations: expectations(route.framework),
        }
    }
}

// === impl Live ===

impl Live {
    /// Puts a gateway in force.
    pub fn new(gateway: Gateway) -> Self {
        Live(ArcSwap::from_pointee(gateway))
    }

    /// The gateway in force now. Taken once per connection and once per request.
    pub fn snapshot(&self) -> Arc<Gateway> {
        self.0.load_full()
    }

    /// Puts another one in its place: from here on requests see that.
    pub fn replace(&self, gateway: Arc<Gateway>) {
        self.0.store(gateway);
    }
}

/// The splice knows no config: plain values.
fn limits(session: &config::Session, drain: &config::Drain) -> Limits {
    let policy = PingPolicy {
        interval: session.ping.interval.0,
        timeout: session.ping.timeout.0,
    };
    let legs = session.ping.legs;
    Limits {
        bounds: Bounds {
            max_frame: session.max_frame.0,
            max_message: session.max_message.0,
        },
        close_timeout: session.close_timeout.0,
        client_ping: matches!(legs, Legs::Client | Legs::Both).then_some(policy),
        backend_ping: matches!(legs, Legs::Backend | Legs::Both).then_some(policy),
        max_age: (!session.max_age.0.is_zero()).then_some((session.max_age.0, drain.code)),
        backend_gone_code: session.backend_gone_code,
    }
}
