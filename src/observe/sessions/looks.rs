//! Who looks at which sessions. Nobody may, but at those of routes that say so.

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

/// All who look, and at what they may.
#[derive(Debug, Default)]
pub(super) struct TapRegistry {
    allowed: BTreeSet<Arc<str>>,
    all: Vec<Arc<TapSink>>,
}

/// Who looks at one session.
#[derive(Debug, Default)]
pub(super) struct SessionTaps {
    /// They are others than when the session last asked. Read at every turn of every session, where nobody looks too.
    changed: AtomicBool,
    all: Mutex<Vec<Arc<TapSink>>>,
}

/// Why nobody may look.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
pub enum TapError {
    /// Not at these.
    #[error("frames are shown only of routes that have tap = true in the configuration")]
    Forbidden,
    /// Enough do.
    #[error("four look at frames already: somebody has to stop first")]
    TooMany,
}

// === impl SessionRegistry ===

impl SessionRegistry {
    /// Of which routes frames may be shown, from now on. Whoever looks at others has to begin anew.
    pub fn set_tappable_routes(&self, routes: impl Iterator<Item = Arc<str>>) {
        let routes = routes.collect();
        let mut book = self.lock();
        let looks = &mut book.looks;
        if !looks.allowed.is_subset(&routes) {
            looks.all.drain(..).for_each(|look| look.end());
        }
        looks.allowed = routes;
    }

    /// Somebody looks at `bytes` of each frame of the sessions that come and that he wants; at those that are there with
    /// [`TapSubscription::attach`].
    ///
    /// # Errors
    /// If nobody may, or too many do.
    pub fn subscribe(
        self: &Arc<Self>,
        wanted: SessionFilter,
        bytes: usize,
    ) -> Result<TapSubscription, TapError> {
        let mut book = self.lock();
        let route = match wanted.id.map(|id| book.live.get(&id)) {
            Some(Some(session)) => Some(&*session.belonging.route),
            // It is for others to say that there is no such session.
            _ => wanted.route.as_deref(),
        };
        let allowed = &book.looks.allowed;
        if allowed.is_empty() || route.is_some_and(|route| !allowed.contains(route)) {
            return Err(TapError::Forbidden);
        }
        if book.looks.all.len() >= MAX_TAPS {
            return Err(TapError::TooMany);
        }
        let looking = TapSubscription::new(self.clone(), wanted, bytes);
        book.looks.all.push(looking.look().clone());
        Ok(looking)
    }

    /// Shows `session` to somebody; whether he may look at it.
    pub(super) fn show(&self, session: &LiveSession, look: &Arc<TapSink>) -> bool {
        let may = self.lock().looks.allows(&session.belonging) && !look.is_over();
        if may {
            session.lookers.add(look);
        }
        may
    }

    /// He looks no more.
    pub(super) fn unsubscribe(&self, gone: &Arc<TapSink>) {
        gone.end();
        self.lock()
            .looks
            .all
            .retain(|look| !Arc::ptr_eq(look, gone));
        let mut after = None;
        loop {
            let some = self.page(after);
            let Some(last) = some.last() else { return };
            after = Some(last.id());
            for SessionRef(session) in &some {
                session.lookers.remove(gone);
            }
        }
    }
}

// === impl TapRegistry ===

impl TapRegistry {
    fn allows(&self, session: &SessionTarget) -> bool {
        self.allowed.contains(&session.route)
    }

    /// Shows a session that comes.
    pub(super) fn attach_all(&self, session: &Arc<LiveSession>) {
        if self.allows(&session.belonging) {
            let session = SessionRef(session.clone());
            for look in self.all.iter().filter(|look| look.wanted.matches(&session)) {
                session.0.lookers.add(look);
            }
        }
    }
}

// === impl SessionTaps ===

impl SessionTaps {
    /// Whether to ask again who looks.
    pub(super) fn have_changed(&self) -> bool {
        self.changed.load(Relaxed)
    }

    /// Who looks.
    pub(super) fn now(&self) -> Vec<Arc<TapSink>> {
        // Under the lock, so that no change is between the two.
        let all = self.all.lock().unwrap_or_else(PoisonError::into_inner);
        self.changed.store(false, Relaxed);
        all.clone()
    }

    fn add(&self, look: &Arc<TapSink>) {
        let mut all = self.all.lock().unwrap_or_else(PoisonError::into_inner);
        if !all.iter().any(|one| Arc::ptr_eq(one, look)) {
            all.push(look.clone());
            self.changed.store(true, Relaxed);
        }
    }

    fn remove(&self, gone: &Arc<TapSink>) {
        let mut all = self.all.lock().unwrap_or_else(PoisonError::into_inner);
        let before = all.len();
        all.retain(|look| !Arc::ptr_eq(look, gone));
        if all.len() < before {
            self.changed.store(true, Relaxed);
            all.shrink_to_fit();
        }
    }
}

/// At a time. One is what anybody needs; some more, so that one who was forgotten is in nobody's way.
const MAX_TAPS: usize = 4;
