//! A live session, as it has itself.

use super::{CloseOrder, LiveSession, SessionRef, SessionRegistry, TapSink};
use crate::{
    observe::{LegRtts, SessionRecord},
    proto::track::FrameCounts,
};
use std::{sync::Arc, task::Waker};

/// A session's place among the live ones, given back on drop.
#[derive(Debug)]
pub struct SessionHandle {
    pub(super) shared: Arc<LiveSession>,
    pub(super) sessions: Arc<SessionRegistry>,
}

// === impl SessionHandle ===

impl SessionHandle {
    /// Orders this session to close, as [`SessionRef::close`] does.
    pub fn close(&self, code: u16) {
        SessionRef(self.shared.clone()).close(code);
    }

    /// The session as it opened.
    pub fn record(&self) -> &Arc<SessionRecord> {
        &self.shared.record
    }

    /// Where the session notes how long its peers take to answer.
    pub fn round_trips(&self) -> &LegRtts {
        &self.shared.round_trips
    }

    /// What was ordered, if anything was; `waker` is woken when that changes.
    pub fn order(&self, waker: &Waker) -> Option<&CloseOrder> {
        self.shared.waker.register(waker);
        self.shared.order.get()
    }

    /// Whether others look at its frames than those of [`SessionHandle::taps`] last time. One plain load.
    pub fn taps_changed(&self) -> bool {
        self.shared.lookers.have_changed()
    }

    /// Who looks at its frames now.
    pub fn taps(&self) -> Vec<Arc<TapSink>> {
        self.shared.lookers.now()
    }

    /// Shows whoever looks what has passed so far. For a session that is about to wait: it costs a few plain stores.
    pub fn publish(&self, from_client: FrameCounts, from_backend: FrameCounts) {
        self.shared.meter.publish(from_client, from_backend);
    }
}

impl Drop for SessionHandle {
    fn drop(&mut self) {
        self.sessions.lock().live.remove(&self.shared.record.id);
    }
}
