//! The live sessions of the process, and how an order reaches one of them.

mod handle;
mod look;
mod looks;
mod meter;
mod order;
mod summons;
mod wanted;

pub use handle::SessionHandle;
pub use look::{Deflate, Look, Looking, Seen};
pub use looks::NoLook;
pub use meter::Traffic;
pub use order::{BadOrder, Order};
pub use summons::Summons;
pub use wanted::Wanted;

use super::{RoundTrips, access::SessionRecord};
use atomic_waker::AtomicWaker;
use looks::{Lookers, Looks};
use meter::Meter;
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
    looks: Looks,
    /// What makes ids of numbers: nobody can tell the next one from those before.
    seed: RandomState,
    entered: u64,
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

/// What the giver of orders and the session both hold.
#[derive(Debug)]
struct Shared {
    /// The first one given is the one that counts.
    order: OnceLock<Order>,
    waker: AtomicWaker,
    meter: Meter,
    lookers: Lookers,
    opened: Instant,
    belonging: Belonging,
    record: Arc<SessionRecord>,
    round_trips: RoundTrips,
}

// === impl Book ===

impl Book {
    fn fresh(&mut self) -> u64 {
        self.entered += 1;
        self.seed.hash_one(self.entered)
    }
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
            let id = book.fresh();
            if !book.live.contains_key(&id) {
                break id;
            }
        };
        let shared = Arc::new(Shared {
            order: OnceLock::new(),
            waker: AtomicWaker::new(),
            meter: Meter::default(),
            lookers: Lookers::default(),
            opened: Instant::now(),
            belonging,
            record: Arc::new(record),
            round_trips: RoundTrips::default(),
        });
        if book.order != 0 {
            Summons(shared.clone()).close(book.order);
        }
        book.looks.meet(&shared);
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

/// So many are looked at in some microseconds, in which nobody can come or go.
const STEP: usize = 1024;

#[cfg(test)]
mod tests;
