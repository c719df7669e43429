//! The immutable, built form of a config: what runs. One snapshot of it serves one request.

use crate::{
    config::{self, ClientCert, Config, HostPattern, Legs, Located, Problem, Problems},
    guard::{AddressGuard, OriginGuard},
    lifecycle::{BackendStatus, RouteStatus},
    proto::track::Bounds,
    router::{Expectations, Router, Rule, expectations},
    splice::{Limits, PingPolicy},
    tls::{self, Certificates, Issuers, Termination},
    upstream::Pool,
};
use arc_swap::ArcSwap;
use std::{collections::BTreeMap, net::IpAddr, sync::Arc, time::Duration};
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
    trusted: Vec<config::Cidr>,
    pools: Vec<Arc<Pool>>,
}

/// What a route does with the requests it matched.
#[derive(Debug)]
pub struct Route {
    /// Its identity.
    pub name: Arc<str>,
    /// Where its backends are.
    pub pool: Arc<Pool>,
    /// What its sessions obey.
    pub limits: watch::Sender<Limits>,
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
    /// Reads the files that the config names and starts nothing: `check` and `run` share it.
    pub fn build(config: &Config, issuers: &Issuers<'_>) -> Result<Gateway, Problems> {
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
            &mut problems,
        );
        let named: BTreeMap<&str, Arc<Pool>> = config
            .pools
            .iter()
            .map(|(name, pool)| {
                (
                    &**name,
                    Arc::new(Pool::new(
                        name,
                        pool.backends.iter().map(|b| b.value.clone()),
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
                    let pool = Arc::new(Pool::new(&route.name, [to.value.clone()]));
                    pools.push(pool.clone());
                    Some(pool)
                }
                (None, None) => None,
            };
            match pool {
                Some(pool) => routes.push((
                    Rule::from(&route.value),
                    Route::new(route, &config.session, pool),
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
        match tls {
            Some(tls) if problems.is_empty() => Ok(Gateway {
                limits: config.limits.clone(),
                proxy_protocol: config.server.proxy_protocol,
                h2_websocket: config.server.h2_websocket,
                tls,
                certificates,
                router: Router::new(routes),
                trusted: config.server.trusted_proxies.clone(),
                pools,
            }),
            _ => Err(Problems::new(config.sources.clone(), problems)),
        }
    }

    /// Whether `address` is a proxy whose word about clients is believed.
    pub fn trusts(&self, address: IpAddr) -> bool {
        self.trusted.iter().any(|network| network.contains(address))
    }

    /// Routes as `lockgate status` shows them.
    pub fn route_status(&self) -> Vec<RouteStatus> {
        let status = |(rule, route): (&Rule, &Route)| RouteStatus {
            name: route.name.to_string(),
            rule: rule.to_string(),
            pool: route.pool.name().to_string(),
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
            };
            pool.backends().iter().map(status).collect::<Vec<_>>()
        };
        self.pools.iter().flat_map(of_pool).collect()
    }
}

// === impl Route ===

impl Route {
    fn new(route: &config::Route, defaults: &config::Session, pool: Arc<Pool>) -> Self {
        let session = defaults.with(&route.session);
        Route {
            name: route.name.as_str().into(),
            pool,
            limits: watch::Sender::new(limits(&session)),
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
}

/// The splice knows no config: plain values.
fn limits(session: &config::Session) -> Limits {
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
        backend_gone_code: session.backend_gone_code,
    }
}
