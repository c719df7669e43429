//! References to live sessions, for code outside the session task.

use super::{CloseOrder, LiveSession, SessionTarget, Traffic};
use crate::observe::{LegRtts, SessionRecord};
use std::{sync::Arc, time::Duration};

/// A reference to a live session: reads its state and sends close orders.
#[derive(Debug, Clone)]
pub struct SessionRef(pub(super) Arc<LiveSession>);

// === impl SessionRef ===

impl SessionRef {
    /// Sends a close order: the client gets `code`, the backend 1001. Only the first order has an effect.
    pub fn close(&self, code: u16) {
        self.order(CloseOrder::internal(code));
    }

    /// Sends a close order. Returns true if it is the first one, and so has an effect.
    pub fn order(&self, order: CloseOrder) -> bool {
        let is_first = self.0.order.set(order).is_ok();
        if is_first {
            self.0.waker.wake();
        }
        is_first
    }

    /// Returns the session's id.
    pub fn id(&self) -> u64 {
        self.0.record.id
    }

    /// Returns the facts known when the session opened.
    pub fn record(&self) -> &SessionRecord {
        &self.0.record
    }

    /// Returns the time since the session opened.
    pub fn age(&self) -> Duration {
        self.0.opened.elapsed()
    }

    /// Returns the traffic from the client and from the backend, as last published by the session.
    pub fn traffic(&self) -> (Traffic, Traffic) {
        self.0.traffic.read()
    }

    /// Returns the last round-trip time of each leg.
    pub fn round_trips(&self) -> &LegRtts {
        &self.0.rtts
    }

    /// Returns the route and backend of the session.
    pub fn target(&self) -> &SessionTarget {
        &self.0.target
    }

    /// Returns true if the session has ended and no other reference to it exists.
    pub fn is_over(&self) -> bool {
        // A live session is also referenced by its handle and by the registry.
        Arc::strong_count(&self.0) == 1
    }
}
