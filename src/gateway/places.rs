//! Whose sessions are evened out.

use super::Gateway;
use crate::{observe::SessionTarget, upstream::Pool};
use std::sync::Arc;

// === impl Gateway ===

impl Gateway {
    /// The pool of this name, if it is one whose sessions are evened out.
    pub fn rebalancing_pool(&self, name: &str) -> Option<&Arc<Pool>> {
        let mut pools = self.pools.iter();
        // A route with `to` may have a pool of that name, too.
        pools.find(|pool| **pool.name() == *name && pool.rebalance().is_some())
    }

    /// Whether a session came by a route of this pool.
    pub fn uses_pool(&self, pool: &Arc<Pool>, session: &SessionTarget) -> bool {
        let place = self.pools_by_route.get(&session.route);
        place.is_some_and(|place| Arc::ptr_eq(place, pool))
    }
}
