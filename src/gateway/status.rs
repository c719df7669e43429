//! Drains by an operator's order, and the status of routes, pools and backends.

use crate::{
    gateway::{Gateway, route::Route},
    lifecycle::command::{BackendStatus, DrainTarget, PoolStatus, RouteStatus},
    router::rule::Rule,
    upstream::{
        backend::{Backend, BackendState},
        pool::Pool,
    },
};
use std::sync::{Arc, atomic::Ordering};
use tokio::time::Instant;

// === impl Gateway ===

impl Gateway {
    /// Starts or ends the drain of a route, or of a backend in all pools. Returns whether the target exists.
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
                let backends = self.all_backends().into_iter();
                let named = backends.filter(|backend| **backend.name() == **address);
                named.inspect(|backend| backend.drain(draining)).count() > 0
            }
        }
    }

    /// Returns whether the target is draining or no longer exists.
    pub fn is_drained(&self, target: &DrainTarget) -> bool {
        match target {
            DrainTarget::Route(name) => {
                let mut routes = self.router.rules();
                let route = routes.find(|(_, route)| *route.name == **name);
                route.is_none_or(|(_, route)| route.draining.load(Ordering::Relaxed))
            }
            DrainTarget::Backend(address) => {
                let mut backends = self.all_backends().into_iter();
                let backend = backends.find(|backend| **backend.name() == **address);
                backend.is_none_or(|backend| backend.is_draining())
            }
        }
    }

    /// Returns the pools of this backend in which no backend accepts new sessions.
    pub fn pools_left_without_backend(&self, target: &DrainTarget) -> Vec<Arc<str>> {
        let DrainTarget::Backend(address) = target else {
            return Vec::new();
        };
        let has_backend = |pool: &&Arc<Pool>| {
            let mut backends = pool.backends().into_iter();
            backends.any(|backend| **backend.name() == **address)
        };
        let exhausted = self.pools.iter().filter(has_backend);
        let exhausted = exhausted.filter(|pool| !pool.takes_sessions());
        exhausted.map(|pool| pool.name().clone()).collect()
    }

    /// Returns the names of all draining routes and backends.
    pub fn drained(&self) -> Vec<Arc<str>> {
        let routes = self.router.rules();
        let routes = routes.filter(|(_, route)| route.draining.load(Ordering::Relaxed));
        let backends = self.all_backends().into_iter();
        let backends = backends.filter(|backend| backend.is_draining());
        let backends = backends.map(|backend| backend.name().clone());
        routes
            .map(|(_, route)| route.name.clone())
            .chain(backends)
            .collect()
    }

    /// Returns the names of the routes with `tap = true`.
    pub fn tappable(&self) -> impl Iterator<Item = Arc<str>> {
        let routes = self.router.rules().filter(|(_, route)| route.tap);
        routes.map(|(_, route)| route.name.clone())
    }

    /// Returns the routes as `lockgate status` shows them.
    pub fn route_status(&self) -> Vec<RouteStatus> {
        let status = |(rule, route): (&Rule, &Route)| RouteStatus {
            name: route.name.to_string(),
            rule: rule.to_string(),
            pool: route.pool.name().to_string(),
            draining: route.draining.load(Ordering::Relaxed),
        };
        self.router.rules().map(status).collect()
    }

    /// Returns the pools as `lockgate status` shows them.
    pub fn pool_status(&self) -> Vec<PoolStatus> {
        let status = |pool: &Arc<Pool>| PoolStatus {
            name: pool.name().to_string(),
            waiting: pool.queue_len(),
        };
        self.pools.iter().map(status).collect()
    }

    /// Returns the backends as `lockgate status` shows them.
    pub fn backend_status(&self) -> Vec<BackendStatus> {
        let now = Instant::now();
        let status = |pool: &Pool, backend: &Backend, vanished: bool| BackendStatus {
            pool: pool.name().to_string(),
            address: backend.name().to_string(),
            leases: backend.leases(),
            handshakes: backend.handshakes(),
            state: if vanished {
                BackendState::Vanished
            } else {
                pool.state(backend, now)
            }
            .as_str(),
            ejected_seconds: backend.health().ejected_for(now).map(|it| it.as_secs()),
            why: backend.health().condition().1,
            draining: backend.is_draining(),
        };
        let of_pool = |pool: &Arc<Pool>| {
            let (current, vanished) = (pool.backends(), pool.vanished());
            let current = current.iter().map(|backend| status(pool, backend, false));
            let vanished = vanished.iter().map(|backend| status(pool, backend, true));
            current.chain(vanished).collect::<Vec<_>>()
        };
        self.pools.iter().flat_map(of_pool).collect()
    }
}
