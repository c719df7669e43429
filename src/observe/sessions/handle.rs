//! The handle that a session task holds on its registry entry.

use super::{CloseOrder, LiveSession, SessionRef, SessionRegistry, TapSink};
use crate::{
    observe::{LegRtts, SessionRecord},
    proto::track::FrameCounts,
};
use std::{sync::Arc, task::Waker};

/// A session's own entry in the registry; removed on drop.
#[derive(Debug)]
pub struct SessionHandle {
    pub(super) shared: Arc<LiveSession>,
    pub(super) registry: Arc<SessionRegistry>,
}

// === impl SessionHandle ===

impl SessionHandle {
    /// Orders this session to close, as [`SessionRef::close`] does.
    pub fn close(&self, code: u16) {
        SessionRef(self.shared.clone()).close(code);
    }

    /// Returns the facts known when the session opened.
    pub fn record(&self) -> &Arc<SessionRecord> {
        &self.shared.record
    }

    /// Returns the cells in which the session stores its round-trip times.
    pub fn round_trips(&self) -> &LegRtts {
        &self.shared.rtts
    }

    /// Returns the close order, if one was sent. Registers `waker` for close orders and [`SessionRegistry::wake_all`].
    pub fn order(&self, waker: &Waker) -> Option<&CloseOrder> {
        self.shared.waker.register(waker);
        self.shared.order.get()
    }

    /// Returns true if the taps have changed since the last call of [`SessionHandle::taps`]. Costs one relaxed load.
    pub fn taps_changed(&self) -> bool {
        self.shared.taps.have_changed()
    }

    /// Returns the taps that are attached to the session now.
    pub fn taps(&self) -> Vec<Arc<TapSink>> {
        self.shared.taps.snapshot()
    }

    /// Publishes the traffic counts for [`SessionRef::traffic`]. Called before the session waits; costs four relaxed stores.
    pub fn publish(&self, from_client: FrameCounts, from_backend: FrameCounts) {
        self.shared.traffic.publish(from_client, from_backend);
    }
}

impl Drop for SessionHandle {
    fn drop(&mut self) {
        self.registry.lock().live.remove(&self.shared.record.id);
    }
}
