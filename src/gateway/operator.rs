//! What an operator queries from the current gateway and the orders it accepts: status and drains.

use super::Gateway;
use crate::{
    gateway::Route,
    lifecycle::{BackendStatus, DrainTarget, PoolStatus, RouteStatus},
    router::Rule,
    upstream::{Backend, BackendState, Pool},
};
use std::sync::{Arc, atomic::Ordering};
use tokio::time::Instant;

// === impl Gateway ===

impl Gateway {
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
                let backends = self.all_backends().into_iter();
                let named = backends.filter(|backend| **backend.name() == **address);
                named.inspect(|backend| backend.drain(draining)).count() > 0
            }
        }
    }

    /// Whether [`Gateway::drain`] is in force for it, or it is gone.
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

    /// Pools of this backend that have none left that takes new sessions.
    pub fn pools_left_without_backend(&self, target: &DrainTarget) -> Vec<Arc<str>> {
        let DrainTarget::Backend(address) = target else {
            return Vec::new();
        };
        let is_its = |pool: &&Arc<Pool>| {
            let mut backends = pool.backends().into_iter();
            backends.any(|backend| **backend.name() == **address)
        };
        let exhausted = self.pools.iter().filter(is_its);
        let exhausted = exhausted.filter(|pool| !pool.takes_sessions());
        exhausted.map(|pool| pool.name().clone()).collect()
    }

    /// What [`Gateway::drain`] is in force for, by name.
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

    /// Routes of which frames may be looked at.
    pub fn tappable(&self) -> impl Iterator<Item = Arc<str>> {
        let routes = self.router.rules().filter(|(_, route)| route.tap);
        routes.map(|(_, route)| route.name.clone())
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

    /// Pools as `lockgate status` shows them.
    pub fn pool_status(&self) -> Vec<PoolStatus> {
        let status = |pool: &Arc<Pool>| PoolStatus {
            name: pool.name().to_string(),
            waiting: pool.waiting(),
        };
        self.pools.iter().map(status).collect()
    }

    /// Backends as `lockgate status` shows them.
    pub fn backend_status(&self) -> Vec<BackendStatus> {
        let now = Instant::now();
        let status = |pool: &Pool, backend: &Backend, vanished: bool| BackendStatus {
            pool: pool.name().to_string(),
            address: backend.name().to_string(),
            leases: backend.leases(),
            handshakes: backend.handshakes(),
            state: match vanished {
                true => BackendState::Vanished,
                false => pool.state(backend, now),
            }
            .as_str(),
            ejected_seconds: backend.health().ejected_for(now).map(|it| it.as_secs()),
            why: backend.health().condition().1,
            draining: backend.is_draining(),
        };
        let of_pool = |pool: &Arc<Pool>| {
            let (here, gone) = (pool.backends(), pool.vanished());
            let here = here.iter().map(|backend| status(pool, backend, false));
            let gone = gone.iter().map(|backend| status(pool, backend, true));
            here.chain(gone).collect::<Vec<_>>()
        };
        self.pools.iter().flat_map(of_pool).collect()
    }
}
