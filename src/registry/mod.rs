//! Control of live sessions. This file has the table of sessions, the handle that a session task holds, the references
//! that other code holds, and close orders. `filter` selects sessions, `identity` has who opened them, `expiry` closes
//! those whose token has expired, `traffic` has their counters, `tap` and `tap_sink` subscriptions to their frames.
//! Read-only observation is in `observe`.

pub(crate) mod expiry;
pub(crate) mod filter;
pub(crate) mod identity;
pub(crate) mod tap;
pub(crate) mod tap_sink;
pub(crate) mod traffic;

use crate::{
    observe::access::record::{SessionFacts, SessionRecord},
    proto::{frame::close_code_allowed, frame_tracker::FrameCounts},
    registry::{
        filter::SessionFilter,
        identity::{ExpiryClock, SessionIdentity},
        tap_sink::{SessionTaps, TapRegistry, TapSink},
        traffic::{LegRtts, Traffic, TrafficCounters},
    },
};
use atomic_waker::AtomicWaker;
use std::{
    collections::BTreeMap,
    hash::{BuildHasher as _, RandomState},
    iter,
    ops::Bound,
    sync::{
        Arc, Mutex, MutexGuard, OnceLock, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    task::Waker,
    time::Duration,
};
use thiserror::Error;
use tokio::time::Instant;
use tokio_util::sync::{CancellationToken, WaitForCancellationFuture};

/// All live sessions, by id.
#[derive(Debug, Default)]
pub struct SessionRegistry {
    table: Mutex<SessionTable>,
    /// Cancelled once new sessions are closed immediately.
    closing: CancellationToken,
    pub(crate) expiry: ExpiryClock,
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
    /// Boxed, because most sessions have none.
    identity: Option<Box<SessionIdentity>>,
    rtts: LegRtts,
    /// Set when the session task drops its handle.
    has_ended: AtomicBool,
}

/// A session's own entry in the registry, held by the session task; removed on drop.
#[derive(Debug)]
pub struct SessionHandle {
    shared: Arc<LiveSession>,
    registry: Arc<SessionRegistry>,
}

/// A reference to a live session, for code outside the session task: reads its state and sends close orders.
#[derive(Debug, Clone)]
pub struct SessionRef(Arc<LiveSession>);

/// An order to close a session. The backend always gets 1001.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CloseOrder {
    /// The close code for the client.
    pub code: u16,
    /// The reason for the client; may be empty.
    pub reason: Box<str>,
    /// Why the session is closed.
    pub cause: OrderCause,
}

/// The cause of a close order.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum OrderCause {
    /// A drain, a shutdown or a limit.
    Lockgate,
    /// A command of an operator.
    Operator,
    /// The token that the session was opened with has expired.
    Expired,
    /// The authority no longer admits the client.
    Revoked,
    /// The authority has not answered for too long.
    AuthoritySilent,
}

/// An invalid code or reason of a close order.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
pub enum BadCloseOrder {
    /// A code that a server must not send (RFC 6455 §7.4).
    #[error(
        "{0} is not a close code that a server may send (RFC 6455 §7.4): use 1000, 1001, 1008, 1011 to 1013, or one of 3000 to 4999"
    )]
    Code(u16),
    /// A reason longer than 123 bytes: a control frame has 125, and the code takes two (RFC 6455 §5.5).
    #[error("the reason is {0} bytes long; a Close frame has room for 123")]
    Reason(usize),
}

// === impl SessionRegistry ===

impl SessionRegistry {
    /// Registers a session under a new random id, which is written into the record. Ids of different processes are
    /// unlikely to collide.
    pub fn register(
        self: &Arc<Self>,
        target: SessionTarget,
        mut record: SessionRecord,
        identity: Option<Box<SessionIdentity>>,
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
            identity,
            rtts: LegRtts::default(),
            has_ended: AtomicBool::new(false),
        });
        if table.close_code != 0 {
            SessionRef(shared.clone()).close(table.close_code);
        }
        table.taps.attach_all(
            &shared.target.route,
            &shared.record,
            shared
                .identity
                .as_deref()
                .map(|identity| &*identity.subject),
            shared.opened.elapsed(),
            &shared.taps,
        );
        table.live.insert(shared.record.id, shared.clone());
        drop(table);
        if let Some(identity) = &shared.identity {
            self.expiry.note(identity);
        }
        SessionHandle {
            shared,
            registry: self.clone(),
        }
    }

    /// Registers a session with this target and a placeholder record.
    #[cfg(test)]
    pub(crate) fn open(self: &Arc<Self>, target: SessionTarget) -> SessionHandle {
        self.open_as(target, None)
    }

    /// Registers a session as [`SessionRegistry::open`] does, with an identity.
    #[cfg(test)]
    pub(crate) fn open_as(
        self: &Arc<Self>,
        target: SessionTarget,
        identity: Option<Box<SessionIdentity>>,
    ) -> SessionHandle {
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
        self.register(target, record, identity)
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

    /// Returns the live sessions whose target fulfils `condition`, ordered by id. The table is read by pages, and the
    /// condition is evaluated while it is unlocked, so it may take locks of its own and delays no session that opens or
    /// ends. A session that opens during the call may be missing: its task must check the condition after it has
    /// registered.
    pub fn matching(&self, condition: impl Fn(&SessionTarget) -> bool) -> Vec<SessionRef> {
        let sessions = self.pages().flatten();
        sessions
            .filter(|session| condition(session.target()))
            .collect()
    }

    /// Returns up to `PAGE_LEN` live sessions with an id greater than `after`, ordered by id; an empty page ends the
    /// list. Paging delays sessions that open or end only for the length of one page.
    pub fn page(&self, after: Option<u64>) -> Vec<SessionRef> {
        let from = after.map_or(Bound::Unbounded, Bound::Excluded);
        let table = self.lock();
        let rest = table.live.range((from, Bound::Unbounded));
        rest.take(PAGE_LEN)
            .map(|(_, shared)| SessionRef(shared.clone()))
            .collect()
    }

    /// Returns all live sessions, page by page.
    pub(crate) fn pages(&self) -> impl Iterator<Item = Vec<SessionRef>> {
        let mut after = None;
        iter::from_fn(move || {
            let page = self.page(after);
            after = Some(page.last()?.id());
            Some(page)
        })
    }

    /// Returns the number of live sessions.
    pub fn count(&self) -> usize {
        self.lock().live.len()
    }

    /// Returns the live session with this id.
    pub fn find(&self, id: u64) -> Option<SessionRef> {
        self.lock().live.get(&id).cloned().map(SessionRef)
    }

    /// Wakes every session task so that it applies changed limits. An idle session would otherwise notice them at its
    /// next timer. One that opens during the call reads the changed limits.
    pub fn wake_all(&self) {
        for session in self.pages().flatten() {
            session.0.waker.wake();
        }
    }

    // The table is consistent after every statement, so a poisoned lock is used anyway.
    fn lock(&self) -> MutexGuard<'_, SessionTable> {
        self.table.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

// === impl SessionTable ===

impl SessionTable {
    fn next_id(&mut self) -> u64 {
        self.registered += 1;
        self.seed.hash_one(self.registered)
    }
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

    /// Returns a reference for code outside the session task.
    pub fn reference(&self) -> SessionRef {
        SessionRef(self.shared.clone())
    }

    /// Returns the close order, if one was sent.
    #[cfg(test)]
    pub(crate) fn close_order(&self) -> Option<&CloseOrder> {
        self.shared.order.get()
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

    /// Publishes the traffic counts for [`SessionRef::traffic`]. Called before the session waits; costs four relaxed
    /// stores.
    pub fn publish(&self, from_client: FrameCounts, from_backend: FrameCounts) {
        self.shared.traffic.publish(from_client, from_backend);
    }
}

impl Drop for SessionHandle {
    fn drop(&mut self) {
        self.shared.has_ended.store(true, Ordering::Relaxed);
        self.registry.lock().live.remove(&self.shared.record.id);
    }
}

// === impl SessionRef ===

impl SessionRef {
    /// Sends a close order: the client gets `code`, the backend 1001. Only the first order has an effect.
    pub fn close(&self, code: u16) {
        self.order(CloseOrder::internal(code));
    }

    /// Sends a close order. Returns true if it is the first one, and so has an effect.
    pub fn order(&self, order: CloseOrder) -> bool {
        let is_first = self.0.order.set(order).is_ok();
        if is_first {
            self.0.waker.wake();
        }
        is_first
    }

    /// Returns the session's id.
    pub fn id(&self) -> u64 {
        self.0.record.id
    }

    /// Returns the facts known when the session opened.
    pub fn record(&self) -> &SessionRecord {
        &self.0.record
    }

    /// Returns who opened the session; `None` if its route has no guards.
    pub fn identity(&self) -> Option<&SessionIdentity> {
        self.0.identity.as_deref()
    }

    /// Returns the facts for the access log.
    pub fn facts(&self) -> SessionFacts<'_> {
        SessionFacts {
            record: &self.0.record,
            subject: self.identity().map(|identity| &*identity.subject),
        }
    }

    /// Returns whether the session has received a close order.
    pub(crate) fn has_order(&self) -> bool {
        self.0.order.get().is_some()
    }

    /// Returns the time since the session opened.
    pub fn age(&self) -> Duration {
        self.0.opened.elapsed()
    }

    /// Returns the traffic from the client and from the backend, as last published by the session.
    pub fn traffic(&self) -> (Traffic, Traffic) {
        self.0.traffic.read()
    }

    /// Returns the last round-trip time of each leg.
    pub fn round_trips(&self) -> &LegRtts {
        &self.0.rtts
    }

    /// Returns the route and backend of the session.
    pub fn target(&self) -> &SessionTarget {
        &self.0.target
    }

    /// Returns true if all conditions of `filter` hold now.
    pub fn matches(&self, filter: &SessionFilter) -> bool {
        let subject = self.identity().map(|identity| &*identity.subject);
        filter.matches(&self.0.record, subject, self.age())
    }

    /// Returns true if the session has ended.
    pub fn is_over(&self) -> bool {
        self.0.has_ended.load(Ordering::Relaxed)
    }
}

// === impl CloseOrder ===

impl CloseOrder {
    /// Creates an order of Lockgate itself. The code comes from the configuration, which has validated it, or is a
    /// constant.
    pub fn internal(code: u16) -> CloseOrder {
        CloseOrder {
            code,
            reason: "".into(),
            cause: OrderCause::Lockgate,
        }
    }

    /// Creates an order of an operator.
    ///
    /// # Errors
    /// If a server must not send the code, or if the reason is too long.
    pub fn from_operator(code: u16, reason: &str) -> Result<CloseOrder, BadCloseOrder> {
        // RFC 6455 §7.4.1: only a client sends 1010, to report a missing extension.
        if !close_code_allowed(code) || code == 1010 {
            return Err(BadCloseOrder::Code(code));
        }
        if reason.len() > MAX_REASON_LEN {
            return Err(BadCloseOrder::Reason(reason.len()));
        }
        Ok(CloseOrder {
            code,
            reason: reason.into(),
            cause: OrderCause::Operator,
        })
    }
}

/// Sessions per page. The table is locked while a page is copied, for some microseconds.
const PAGE_LEN: usize = 1024;

/// In bytes (RFC 6455 §5.5).
const MAX_REASON_LEN: usize = 123;

#[cfg(test)]
mod tests;
