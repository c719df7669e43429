//! The registry of live sessions: handles, close orders, filters and taps.

mod handle;
mod look;
mod looks;
mod meter;
mod order;
mod summons;
mod wanted;

pub use handle::SessionHandle;
pub use look::{InflateStatus, TapSink, TapSubscription, TappedFrame};
pub use looks::TapError;
pub use meter::Traffic;
pub use order::{BadCloseOrder, CloseOrder};
pub use summons::SessionRef;
pub use wanted::SessionFilter;

use super::{LegRtts, access::SessionRecord};
use atomic_waker::AtomicWaker;
use looks::{SessionTaps, TapRegistry};
use meter::TrafficCounters;
use std::{
    collections::BTreeMap,
    hash::{BuildHasher as _, RandomState},
    ops::Bound,
    sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError},
};
use tokio::time::Instant;
use tokio_util::sync::{CancellationToken, WaitForCancellationFuture};

/// All live sessions, by id.
#[derive(Debug, Default)]
pub struct SessionRegistry {
    table: Mutex<SessionTable>,
    /// Cancelled once new sessions are closed immediately.
    closing: CancellationToken,
}

#[derive(Debug, Default)]
struct SessionTable {
    /// Ordered by id, so that a reader can page through it.
    live: BTreeMap<u64, Arc<LiveSession>>,
    /// The close code for every session that registers from now on; 0 means that sessions stay open.
    close_code: u16,
    taps: TapRegistry,
    /// The key that turns serial numbers into ids, so that the next id cannot be derived from earlier ones.
    seed: RandomState,
    registered: u64,
}

/// The route and backend of a session.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SessionTarget {
    /// The route's name.
    pub route: Arc<str>,
    /// The backend's address.
    pub backend: Arc<str>,
    /// The pool entry of the backend: its address, or the DNS name that resolved to it.
    pub pool_entry: Arc<str>,
}

/// The state shared by the session task and the registry.
#[derive(Debug)]
struct LiveSession {
    /// The close order; only the first one counts.
    order: OnceLock<CloseOrder>,
    waker: AtomicWaker,
    traffic: TrafficCounters,
    taps: SessionTaps,
    opened: Instant,
    target: SessionTarget,
    record: Arc<SessionRecord>,
    rtts: LegRtts,
}

// === impl SessionTable ===

impl SessionTable {
    fn next_id(&mut self) -> u64 {
        self.registered += 1;
        self.seed.hash_one(self.registered)
    }
}

// === impl SessionRegistry ===

impl SessionRegistry {
    /// Registers a session under a new random id, which is written into the record. Ids of different processes are unlikely to
    /// collide.
    pub fn register(
        self: &Arc<Self>,
        target: SessionTarget,
        mut record: SessionRecord,
    ) -> SessionHandle {
        let mut table = self.lock();
        record.id = loop {
            let id = table.next_id();
            if !table.live.contains_key(&id) {
                break id;
            }
        };
        let shared = Arc::new(LiveSession {
            order: OnceLock::new(),
            waker: AtomicWaker::new(),
            traffic: TrafficCounters::default(),
            taps: SessionTaps::default(),
            opened: Instant::now(),
            target,
            record: Arc::new(record),
            rtts: LegRtts::default(),
        });
        if table.close_code != 0 {
            SessionRef(shared.clone()).close(table.close_code);
        }
        table.taps.attach_all(&shared);
        table.live.insert(shared.record.id, shared.clone());
        SessionHandle {
            shared,
            registry: self.clone(),
        }
    }

    /// Registers a session with this target and a placeholder record.
    #[cfg(test)]
    pub(crate) fn open(self: &Arc<Self>, target: SessionTarget) -> SessionHandle {
        let record = SessionRecord {
            id: 0,
            client: [127, 0, 0, 1].into(),
            http: "1.1",
            host: "a.test".into(),
            path: "/".into(),
            route: target.route.clone(),
            backend: target.backend.clone(),
            subprotocol: None,
            extensions: None,
        };
        self.register(target, record)
    }

    /// Orders existing and new sessions to close with `code`.
    #[cfg(test)]
    pub(crate) fn close_all(&self, code: u16) {
        self.close_new_sessions(code);
        for session in self.matching(|_| true) {
            session.close(code);
        }
    }

    /// Orders every session that opens from now on to close with `code`; existing sessions are not affected.
    pub fn close_new_sessions(&self, code: u16) {
        self.lock().close_code = code;
        self.closing.cancel();
    }

    /// Completes when new sessions are closed immediately ([`SessionRegistry::close_new_sessions`]).
    pub fn closing(&self) -> WaitForCancellationFuture<'_> {
        self.closing.cancelled()
    }

    /// Returns the live sessions whose target fulfils `condition`, ordered by id. The condition is evaluated after the table
    /// has been unlocked, so it may take locks of its own and delays no session that opens or ends.
    pub fn matching(&self, condition: impl Fn(&SessionTarget) -> bool) -> Vec<SessionRef> {
        let mut sessions: Vec<_> = self.lock().live.values().cloned().map(SessionRef).collect();
        sessions.retain(|session| condition(session.target()));
        sessions
    }

    /// Returns up to [`PAGE_LEN`] live sessions with an id greater than `after`, ordered by id; an empty page ends the list.
    /// Paging delays sessions that open or end only for the length of one page.
    pub fn page(&self, after: Option<u64>) -> Vec<SessionRef> {
        let from = after.map_or(Bound::Unbounded, Bound::Excluded);
        let table = self.lock();
        let rest = table.live.range((from, Bound::Unbounded));
        rest.take(PAGE_LEN)
            .map(|(_, shared)| SessionRef(shared.clone()))
            .collect()
    }

    /// Returns the number of live sessions.
    pub fn count(&self) -> usize {
        self.lock().live.len()
    }

    /// Returns the live session with this id.
    pub fn find(&self, id: u64) -> Option<SessionRef> {
        self.lock().live.get(&id).cloned().map(SessionRef)
    }

    /// Wakes every session task so that it applies changed limits. An idle session would otherwise notice them at its next
    /// timer.
    pub fn wake_all(&self) {
        for shared in self.lock().live.values() {
            shared.waker.wake();
        }
    }

    // The table is consistent after every statement, so a poisoned lock is used anyway.
    fn lock(&self) -> MutexGuard<'_, SessionTable> {
        self.table.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Sessions per page. The table is locked while a page is copied, for some microseconds.
const PAGE_LEN: usize = 1024;

#[cfg(test)]
mod tests;
