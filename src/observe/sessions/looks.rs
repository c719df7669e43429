//! Registry of frame taps. Only sessions of routes with `tap = true` can be tapped.

use super::{
    LiveSession, SessionFilter, SessionRef, SessionRegistry, SessionTarget,
    look::{TapSink, TapSubscription},
};
use std::{
    collections::BTreeSet,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, Ordering::Relaxed},
    },
};
use thiserror::Error;

/// All taps, and the routes that may be tapped.
#[derive(Debug, Default)]
pub(super) struct TapRegistry {
    allowed_routes: BTreeSet<Arc<str>>,
    sinks: Vec<Arc<TapSink>>,
}

/// The taps attached to one session.
#[derive(Debug, Default)]
pub(super) struct SessionTaps {
    /// True if the taps have changed since the last snapshot. Read on every poll of every session, also without taps.
    changed: AtomicBool,
    sinks: Mutex<Vec<Arc<TapSink>>>,
}

/// An error that prevents a tap.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
pub enum TapError {
    /// The route may not be tapped.
    #[error("only routes with tap = true in the configuration can be tapped")]
    Forbidden,
    /// The limit is reached.
    #[error("too many frame taps (limit {limit}): stop one with Ctrl-C, then try again", limit = MAX_TAPS)]
    TooMany,
}

// === impl SessionRegistry ===

impl SessionRegistry {
    /// Sets the routes that may be tapped. If a route is no longer allowed, all existing taps end.
    pub fn set_tappable_routes(&self, routes: impl Iterator<Item = Arc<str>>) {
        let routes = routes.collect();
        let mut table = self.lock();
        let taps = &mut table.taps;
        if !taps.allowed_routes.is_subset(&routes) {
            taps.sinks.drain(..).for_each(|sink| sink.end());
        }
        taps.allowed_routes = routes;
    }

    /// Creates a tap that sends `bytes` payload bytes of each frame of new sessions that match `filter`. Existing sessions
    /// are added with [`TapSubscription::attach`].
    ///
    /// # Errors
    /// If the route may not be tapped, or if there are too many taps.
    pub fn subscribe(
        self: &Arc<Self>,
        filter: SessionFilter,
        bytes: usize,
    ) -> Result<TapSubscription, TapError> {
        let mut table = self.lock();
        let route = match filter.id.map(|id| table.live.get(&id)) {
            Some(Some(session)) => Some(&*session.target.route),
            // The caller reports an unknown id.
            _ => filter.route.as_deref(),
        };
        let allowed = &table.taps.allowed_routes;
        if allowed.is_empty() || route.is_some_and(|route| !allowed.contains(route)) {
            return Err(TapError::Forbidden);
        }
        if table.taps.sinks.len() >= MAX_TAPS {
            return Err(TapError::TooMany);
        }
        let subscription = TapSubscription::new(self.clone(), filter, bytes);
        table.taps.sinks.push(subscription.sink().clone());
        Ok(subscription)
    }

    /// Attaches a tap to `session`. Returns false if the route may not be tapped, or if the tap has ended.
    pub(super) fn attach_tap(&self, session: &LiveSession, sink: &Arc<TapSink>) -> bool {
        let is_allowed = self.lock().taps.allows(&session.target) && !sink.is_over();
        if is_allowed {
            session.taps.add(sink);
        }
        is_allowed
    }

    /// Ends a tap and detaches it from all sessions.
    pub(super) fn unsubscribe(&self, removed: &Arc<TapSink>) {
        removed.end();
        self.lock()
            .taps
            .sinks
            .retain(|sink| !Arc::ptr_eq(sink, removed));
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

// === impl TapRegistry ===

impl TapRegistry {
    fn allows(&self, target: &SessionTarget) -> bool {
        self.allowed_routes.contains(&target.route)
    }

    /// Attaches all matching taps to a new session.
    pub(super) fn attach_all(&self, session: &Arc<LiveSession>) {
        if self.allows(&session.target) {
            let session = SessionRef(session.clone());
            for sink in self
                .sinks
                .iter()
                .filter(|sink| sink.filter.matches(&session))
            {
                session.0.taps.add(sink);
            }
        }
    }
}

// === impl SessionTaps ===

impl SessionTaps {
    /// Returns true if the taps have changed since the last [`SessionTaps::snapshot`].
    pub(super) fn have_changed(&self) -> bool {
        self.changed.load(Relaxed)
    }

    /// Returns the attached taps.
    pub(super) fn snapshot(&self) -> Vec<Arc<TapSink>> {
        // The flag is cleared under the lock, so that no change falls between the two.
        let sinks = self.sinks.lock().unwrap_or_else(PoisonError::into_inner);
        self.changed.store(false, Relaxed);
        sinks.clone()
    }

    fn add(&self, sink: &Arc<TapSink>) {
        let mut sinks = self.sinks.lock().unwrap_or_else(PoisonError::into_inner);
        if !sinks.iter().any(|other| Arc::ptr_eq(other, sink)) {
            sinks.push(sink.clone());
            self.changed.store(true, Relaxed);
        }
    }

    fn remove(&self, removed: &Arc<TapSink>) {
        let mut sinks = self.sinks.lock().unwrap_or_else(PoisonError::into_inner);
        let before = sinks.len();
        sinks.retain(|sink| !Arc::ptr_eq(sink, removed));
        if sinks.len() < before {
            self.changed.store(true, Relaxed);
            sinks.shrink_to_fit();
        }
    }
}

/// Simultaneous taps. One is enough for an operator; the others allow for taps that were left running.
const MAX_TAPS: usize = 4;
