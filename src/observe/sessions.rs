//! The live sessions of the process, and how an order reaches one of them.

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
    book: Mutex<SessionTable>,
    /// Cancelled once new sessions are closed at once.
    closing: CancellationToken,
}

#[derive(Debug, Default)]
struct SessionTable {
    /// In order, so that a reader can go through it in parts.
    live: BTreeMap<u64, Arc<LiveSession>>,
    /// The close code that all were ordered to use; it also meets who is still on the way in.
    order: u16,
    looks: TapRegistry,
    /// The key that turns numbers into ids: the next id cannot be derived from earlier ones.
    seed: RandomState,
    registered: u64,
}

/// What a session belongs to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SessionTarget {
    /// Its route's name.
    pub route: Arc<str>,
    /// Its backend's address.
    pub backend: Arc<str>,
    /// The entry of the pool that it came by: that address, or a name of which DNS had it.
    pub pool_entry: Arc<str>,
}

/// What the giver of orders and the session both hold.
#[derive(Debug)]
struct LiveSession {
    /// The first one given is the one that counts.
    order: OnceLock<CloseOrder>,
    waker: AtomicWaker,
    meter: TrafficCounters,
    lookers: SessionTaps,
    opened: Instant,
    belonging: SessionTarget,
    record: Arc<SessionRecord>,
    round_trips: LegRtts,
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
    /// Enters a session under a fresh id, which no other process is likely to use, and writes it into the record.
    pub fn register(
        self: &Arc<Self>,
        belonging: SessionTarget,
        mut record: SessionRecord,
    ) -> SessionHandle {
        let mut book = self.lock();
        record.id = loop {
            let id = book.next_id();
            if !book.live.contains_key(&id) {
                break id;
            }
        };
        let shared = Arc::new(LiveSession {
            order: OnceLock::new(),
            waker: AtomicWaker::new(),
            meter: TrafficCounters::default(),
            lookers: SessionTaps::default(),
            opened: Instant::now(),
            belonging,
            record: Arc::new(record),
            round_trips: LegRtts::default(),
        });
        if book.order != 0 {
            SessionRef(shared.clone()).close(book.order);
        }
        book.looks.attach_all(&shared);
        book.live.insert(shared.record.id, shared.clone());
        SessionHandle {
            shared,
            sessions: self.clone(),
        }
    }

    /// Enters a session of which only that counts.
    #[cfg(test)]
    pub(crate) fn open(self: &Arc<Self>, belonging: SessionTarget) -> SessionHandle {
        let record = SessionRecord {
            id: 0,
            client: [127, 0, 0, 1].into(),
            http: "1.1",
            host: "a.test".into(),
            path: "/".into(),
            route: belonging.route.clone(),
            backend: belonging.backend.clone(),
            subprotocol: None,
            extensions: None,
        };
        self.register(belonging, record)
    }

    /// What a stop does, all at once: those who are there and those on their way in.
    #[cfg(test)]
    pub(crate) fn close_all(&self, code: u16) {
        self.close_new_sessions(code);
        for session in self.matching(|_| true) {
            session.close(code);
        }
    }

    /// Orders every session that opens from now on to close with `code`; existing sessions are not affected.
    pub fn close_new_sessions(&self, code: u16) {
        self.lock().order = code;
        self.closing.cancel();
    }

    /// Completes when new sessions are closed at once ([`SessionRegistry::close_new_sessions`]).
    pub fn closing(&self) -> WaitForCancellationFuture<'_> {
        self.closing.cancelled()
    }

    /// Returns the live sessions whose target fulfils `condition`, in no order. The condition is evaluated after the lock of
    /// the table has been released, so it may take locks of its own and costs no session that opens or ends a wait.
    pub fn matching(&self, condition: impl Fn(&SessionTarget) -> bool) -> Vec<SessionRef> {
        let mut sessions: Vec<_> = self.lock().live.values().cloned().map(SessionRef).collect();
        sessions.retain(|session| condition(session.belonging()));
        sessions
    }

    /// Some of the live sessions, in the order of their ids, from behind `after`; none behind the last one. Whoever goes
    /// through all of them in such steps keeps nobody waiting who comes or goes meanwhile.
    pub fn page(&self, after: Option<u64>) -> Vec<SessionRef> {
        let from = after.map_or(Bound::Unbounded, Bound::Excluded);
        let book = self.lock();
        let rest = book.live.range((from, Bound::Unbounded));
        rest.take(PAGE_LEN)
            .map(|(_, shared)| SessionRef(shared.clone()))
            .collect()
    }

    /// How many there are.
    pub fn count(&self) -> usize {
        self.lock().live.len()
    }

    /// The live session of this id.
    pub fn find(&self, id: u64) -> Option<SessionRef> {
        self.lock().live.get(&id).cloned().map(SessionRef)
    }

    /// Has every session look at its limits: an idle one would otherwise keep its old timer.
    pub fn wake_all(&self) {
        for shared in self.lock().live.values() {
            shared.waker.wake();
        }
    }

    // A panic elsewhere cannot leave the book half written: it is used all the same.
    fn lock(&self) -> MutexGuard<'_, SessionTable> {
        self.book.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The number of sessions visited per lock hold: some microseconds, in which no session can open or end.
const PAGE_LEN: usize = 1024;

#[cfg(test)]
mod tests;
