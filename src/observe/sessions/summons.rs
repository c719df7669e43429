//! A live session, as others have it.

use super::{CloseOrder, LiveSession, SessionTarget, Traffic};
use crate::observe::{LegRtts, SessionRecord};
use std::{sync::Arc, time::Duration};

/// A live session, to look at and to order to close.
#[derive(Debug, Clone)]
pub struct SessionRef(pub(super) Arc<LiveSession>);

// === impl SessionRef ===

impl SessionRef {
    /// Orders the session to close: the client with `code`, the backend with 1001. A second order changes nothing.
    pub fn close(&self, code: u16) {
        self.order(CloseOrder::internal(code));
    }

    /// Gives an order; whether it is the first one.
    pub fn order(&self, order: CloseOrder) -> bool {
        let is_first = self.0.order.set(order).is_ok();
        if is_first {
            self.0.waker.wake();
        }
        is_first
    }

    /// Its id.
    pub fn id(&self) -> u64 {
        self.0.record.id
    }

    /// As it opened.
    pub fn record(&self) -> &SessionRecord {
        &self.0.record
    }

    /// Since it opened.
    pub fn age(&self) -> Duration {
        self.0.opened.elapsed()
    }

    /// What had passed when it last waited for more: from the client, and from the backend.
    pub fn traffic(&self) -> (Traffic, Traffic) {
        self.0.meter.read()
    }

    /// How long its peers took to answer the last Ping of ours.
    pub fn round_trips(&self) -> &LegRtts {
        &self.0.round_trips
    }

    /// Where it belongs.
    pub fn belonging(&self) -> &SessionTarget {
        &self.0.belonging
    }

    /// Whether the session has ended.
    pub fn is_over(&self) -> bool {
        // The other one is held by the session and the book.
        Arc::strong_count(&self.0) == 1
    }
}
