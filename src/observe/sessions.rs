//! The live sessions of the process, and how an order reaches one of them.

use atomic_waker::AtomicWaker;
use std::{
    collections::HashMap,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU16, Ordering},
    },
    task::Waker,
};
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
    live: HashMap<u64, Arc<Shared>>,
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

/// A live session that can be ordered to close.
#[derive(Debug, Clone)]
pub struct Summons(Arc<Shared>);

/// A session's place among the live ones, given back on drop.
#[derive(Debug)]
pub struct SessionHandle {
    id: u64,
    shared: Arc<Shared>,
    sessions: Arc<Sessions>,
}

/// What the giver of orders and the session both hold.
#[derive(Debug)]
struct Shared {
    /// The close code ordered; 0: none.
    order: AtomicU16,
    waker: AtomicWaker,
    belonging: Belonging,
}

// === impl Sessions ===

impl Sessions {
    /// Enters a session under a fresh id, which no other process is likely to use.
    pub fn open(self: &Arc<Self>, belonging: Belonging) -> SessionHandle {
        let mut book = self.book();
        let shared = Arc::new(Shared {
            order: AtomicU16::new(book.order),
            waker: AtomicWaker::new(),
            belonging,
        });
        let id = loop {
            let id =
                getrandom::u64().expect("the kernel's random source answers once the system is up");
            if !book.live.contains_key(&id) {
                break id;
            }
        };
        book.live.insert(id, shared.clone());
        SessionHandle {
            id,
            shared,
            sessions: self.clone(),
        }
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

    /// The session's id.
    pub fn id(&self) -> u64 {
        self.id
    }

    /// The close code that was ordered, if one was; `waker` is woken when that changes.
    pub fn order(&self, waker: &Waker) -> Option<u16> {
        self.shared.waker.register(waker);
        match self.shared.order.load(Ordering::Acquire) {
            0 => None,
            code => Some(code),
        }
    }
}

impl Summons {
    /// Orders the session to close: the client with `code`, the backend with 1001. A second order changes nothing.
    pub fn close(&self, code: u16) {
        let order = &self.0.order;
        if order
            .compare_exchange(0, code, Ordering::AcqRel, Ordering::Acquire)
            .is_ok()
        {
            self.0.waker.wake();
        }
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
        self.sessions.book().live.remove(&self.id);
    }
}
