//! Subscriptions to the relayed frames of live sessions. `tap_sink` has the half that sessions hold.

use crate::registry::{
    LiveSession, SessionRef, SessionRegistry, SessionTable,
    filter::SessionFilter,
    tap_sink::{TapError, TapSink, TappedFrame},
};
use std::sync::Arc;
use tokio::sync::mpsc;

/// The receiving half of a tap; ends the tap on drop.
#[derive(Debug)]
pub struct TapSubscription {
    sink: Arc<TapSink>,
    frames: mpsc::Receiver<TappedFrame>,
    registry: Arc<SessionRegistry>,
}

// === impl TapSubscription ===

impl TapSubscription {
    /// Attaches the tap to an existing session. Returns false if the filter does not match, or the route may not be
    /// tapped.
    pub fn attach(&self, session: &SessionRef) -> bool {
        session.matches(&self.sink.filter) && self.registry.attach_tap(&session.0, &self.sink)
    }

    /// Sets the number of frames that may be sent before the next refill.
    pub fn refill(&self, frames: u32) {
        self.sink.refill(frames);
    }

    /// Waits for the next frame.
    pub async fn next(&mut self) -> Option<TappedFrame> {
        self.frames.recv().await
    }

    /// Returns the number of frames dropped since the last call.
    pub fn lost(&self) -> u64 {
        self.sink.take_dropped()
    }

    /// Returns true if the tap is no longer allowed.
    pub fn is_over(&self) -> bool {
        self.sink.is_over()
    }
}

impl Drop for TapSubscription {
    fn drop(&mut self) {
        self.registry.unsubscribe(&self.sink);
    }
}

// === impl SessionRegistry ===

impl SessionRegistry {
    /// Sets the routes that may be tapped. If a route is no longer allowed, all existing taps end.
    pub fn set_tappable_routes(&self, routes: impl Iterator<Item = Arc<str>>) {
        let routes = routes.collect();
        self.lock().taps.set_allowed_routes(routes);
    }

    /// Creates a tap that sends `bytes` payload bytes of each frame of new sessions that match `filter`. Existing
    /// sessions are added with `TapSubscription::attach`.
    ///
    /// # Errors
    /// If the route may not be tapped, or if there are too many taps.
    pub fn subscribe(
        self: &Arc<Self>,
        filter: SessionFilter,
        bytes: usize,
    ) -> Result<TapSubscription, TapError> {
        let mut table = self.lock();
        let SessionTable { live, taps, .. } = &mut *table;
        let route = match filter.id.map(|id| live.get(&id)) {
            Some(Some(session)) => Some(session.target.route.clone()),
            // The caller reports an unknown id.
            _ => filter.route.as_deref().map(Arc::from),
        };
        let (sink, frames) = taps.add(route.as_deref(), filter, bytes)?;
        Ok(TapSubscription {
            sink,
            frames,
            registry: self.clone(),
        })
    }

    /// Attaches a tap to `session`. Returns false if the route may not be tapped, or if the tap has ended.
    fn attach_tap(&self, session: &LiveSession, sink: &Arc<TapSink>) -> bool {
        let is_allowed = self.lock().taps.allows(&session.target.route) && !sink.is_over();
        if is_allowed {
            session.taps.add(sink);
        }
        is_allowed
    }

    /// Ends a tap and detaches it from all sessions.
    fn unsubscribe(&self, removed: &Arc<TapSink>) {
        removed.end();
        self.lock().taps.remove(removed);
        let mut after = None;
        loop {
            let page = self.page(after);
            let Some(last) = page.last() else { return };
            after = Some(last.id());
            for SessionRef(session) in &page {
                session.taps.remove(removed);
            }
        }
    }
}
