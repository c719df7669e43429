//! Rebalancing: the pools that use it, and their sessions.

use super::Gateway;
use crate::{observe::SessionTarget, upstream::Pool};
use std::sync::Arc;

// === impl Gateway ===

impl Gateway {
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
