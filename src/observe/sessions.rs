//! The live sessions of the process, and how an order reaches one of them.

mod meter;
mod order;
mod wanted;

pub use meter::Traffic;
pub use order::{BadOrder, Order};
pub use wanted::Wanted;

use super::access::SessionRecord;
use crate::proto::track::Counts;
use atomic_waker::AtomicWaker;
use meter::Meter;
use std::{
    collections::BTreeMap,
    ops::Bound,
    sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError},
    task::Waker,
    time::Duration,
};
use tokio::time::Instant;
use tokio_util::sync::{CancellationToken, WaitForCancellationFuture};

/// All live sessions, by id.
#[derive(Debug, Default)]
pub struct Sessions {
    book: Mutex<Book>,
    /// Nobody is to come in any more.
    shut: CancellationToken,
}

#[derive(Debug, Default)]
struct Book {
    /// In order, so that a reader can go through it in parts.
    live: BTreeMap<u64, Arc<Shared>>,
    /// The close code that all were ordered to use; it also meets who is still on the way in.
    order: u16,
}

/// What a session belongs to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Belonging {
    /// Its route's name.
    pub route: Arc<str>,
    /// Its backend's address.
    pub backend: Arc<str>,
    /// The entry of the pool that it came by: that address, or a name of which DNS had it.
    pub written: Arc<str>,
}

/// A live session, to look at and to order to close.
#[derive(Debug, Clone)]
pub struct Summons(Arc<Shared>);

/// A session's place among the live ones, given back on drop.
#[derive(Debug)]
pub struct SessionHandle {
    shared: Arc<Shared>,
    sessions: Arc<Sessions>,
}

/// What the giver of orders and the session both hold.
#[derive(Debug)]
struct Shared {
    /// The first one given is the one that counts.
    order: OnceLock<Order>,
    waker: AtomicWaker,
    meter: Meter,
    opened: Instant,
    belonging: Belonging,
    record: Arc<SessionRecord>,
}

// === impl Sessions ===

impl Sessions {
    /// Enters a session under a fresh id, which no other process is likely to use, and writes it into the record.
    pub fn enter(
        self: &Arc<Self>,
        belonging: Belonging,
        mut record: SessionRecord,
    ) -> SessionHandle {
        let mut book = self.book();
        record.id = loop {
            let id =
                getrandom::u64().expect("the kernel's random source answers once the system is up");
            if !book.live.contains_key(&id) {
                break id;
            }
        };
        let shared = Arc::new(Shared {
            order: OnceLock::new(),
            waker: AtomicWaker::new(),
            meter: Meter::default(),
            opened: Instant::now(),
            belonging,
            record: Arc::new(record),
        });
        if book.order != 0 {
            Summons(shared.clone()).close(book.order);
        }
        book.live.insert(shared.record.id, shared.clone());
        SessionHandle {
            shared,
            sessions: self.clone(),
        }
    }

    /// Enters a session of which only that counts.
    #[cfg(test)]
    pub(crate) fn open(self: &Arc<Self>, belonging: Belonging) -> SessionHandle {
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
        self.enter(belonging, record)
    }

    /// What a stop does, all at once: those who are there and those on their way in.
    #[cfg(test)]
    pub(crate) fn close_all(&self, code: u16) {
        self.close_newcomers(code);
        for session in self.belonging(|_| true) {
            session.close(code);
        }
    }

    /// From now on whoever comes in is ordered at once to close with `code`; those who are there are not.
    pub fn close_newcomers(&self, code: u16) {
        self.book().order = code;
        self.shut.cancel();
    }

    /// Ends when whoever comes in is closed at once ([`Sessions::close_newcomers`]).
    pub fn shutting(&self) -> WaitForCancellationFuture<'_> {
        self.shut.cancelled()
    }

    /// The live sessions that belong where `wanted` says, in no order.
    pub fn belonging(&self, wanted: impl Fn(&Belonging) -> bool) -> Vec<Summons> {
        let book = self.book();
        let wanted = book
            .live
            .values()
            .filter(|shared| wanted(&shared.belonging));
        wanted.map(|shared| Summons(shared.clone())).collect()
    }

    /// Some of the live sessions, in the order of their ids, from behind `after`; none behind the last one. Whoever goes
    /// through all of them in such steps keeps nobody waiting who comes or goes meanwhile.
    pub fn some(&self, after: Option<u64>) -> Vec<Summons> {
        let from = after.map_or(Bound::Unbounded, Bound::Excluded);
        let book = self.book();
        let rest = book.live.range((from, Bound::Unbounded));
        rest.take(STEP)
            .map(|(_, shared)| Summons(shared.clone()))
            .collect()
    }

    /// How many there are.
    pub fn count(&self) -> usize {
        self.book().live.len()
    }

    /// The live session of this id.
    pub fn find(&self, id: u64) -> Option<Summons> {
        self.book().live.get(&id).cloned().map(Summons)
    }

    /// Has every session look at its limits: an idle one would else sleep on by the old.
    pub fn stir(&self) {
        for shared in self.book().live.values() {
            shared.waker.wake();
        }
    }

    // A panic elsewhere cannot leave the book half written: it is used all the same.
    fn book(&self) -> MutexGuard<'_, Book> {
        self.book.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

// === impl SessionHandle ===

impl SessionHandle {
    /// Orders this session to close, as [`Summons::close`] does.
    pub fn close(&self, code: u16) {
        Summons(self.shared.clone()).close(code);
    }

    /// The session as it opened.
    pub fn record(&self) -> &Arc<SessionRecord> {
        &self.shared.record
    }

    /// What was ordered, if anything was; `waker` is woken when that changes.
    pub fn order(&self, waker: &Waker) -> Option<&Order> {
        self.shared.waker.register(waker);
        self.shared.order.get()
    }

    /// Shows whoever looks what has passed so far. For a session that is about to wait: it costs a few plain stores.
    pub fn publish(&self, from_client: Counts, from_backend: Counts) {
        self.shared.meter.publish(from_client, from_backend);
    }
}

// === impl Summons ===

impl Summons {
    /// Orders the session to close: the client with `code`, the backend with 1001. A second order changes nothing.
    pub fn close(&self, code: u16) {
        self.order(Order::of_lockgate(code));
    }

    /// Gives an order; whether it is the first one.
    pub fn order(&self, order: Order) -> bool {
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

    /// Where it belongs.
    pub fn belonging(&self) -> &Belonging {
        &self.0.belonging
    }

    /// Whether the session has ended.
    pub fn is_over(&self) -> bool {
        // The other one is held by the session and the book.
        Arc::strong_count(&self.0) == 1
    }
}

impl Drop for SessionHandle {
    fn drop(&mut self) {
        self.sessions.book().live.remove(&self.shared.record.id);
    }
}

/// So many are looked at in some microseconds, in which nobody can come or go.
const STEP: usize = 1024;

#[cfg(test)]
mod tests;
