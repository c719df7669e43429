//! The state of a client's connection, shared by its stream, the task that drives hyper, and the service that answers
//! its requests: what it waits for, the requests being answered, and the sessions of HTTP/2.

use crate::{http::conn_end::ConnEnd, lifecycle::tasks::Tasks, registry::SessionRegistry};
use std::{
    future::poll_fn,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU32, Ordering},
    },
    task::Poll,
    time::Duration,
};
use tokio::{
    sync::{Notify, OwnedSemaphorePermit, Semaphore},
    time::timeout,
};

/// The state of a connection, shared with the service that answers its requests.
#[derive(Debug, Clone)]
pub(crate) struct ConnState(Arc<ConnShared>);

#[derive(Debug)]
struct ConnShared {
    /// The number of requests being answered.
    in_flight: AtomicU32,
    /// Set while a request head is awaited or has begun.
    head: AtomicBool,
    /// In HTTP/2, where several requests can be active at a time: permits for the sessions of the connection, one for
    /// each concurrent stream that it may have.
    session_permits: Option<Arc<Semaphore>>,
    /// Wakes the connection to check its deadline or `overdue` again.
    notify: Notify,
    overdue: AtomicBool,
    /// Set when the connection must close after the requests that are being answered.
    closing: AtomicBool,
    /// The number of streams whose client did not read the response in time.
    stalled: AtomicU32,
    /// Set when the client had enough time to read a GOAWAY: new requests are refused.
    refusing: AtomicBool,
    end: ConnEnd,
}

/// A request being answered; the last clone is dropped when its response is complete.
#[derive(Debug, Clone)]
pub(crate) struct InFlight(Arc<InFlightGuard>);

/// One unit of [`ConnShared::in_flight`].
#[derive(Debug)]
struct InFlightGuard(ConnState);

/// The error of a handshake in an HTTP/2 connection whose sessions, open or closing, have reached its limit on streams.
#[derive(Debug, thiserror::Error)]
#[error("the limit on sessions of the connection is reached")]
pub(crate) struct SessionsOfConnectionFull;

/// What the connection is waiting for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Awaiting {
    /// No request: the client may send another one, or disconnect.
    Idle,
    /// The rest of a request's head.
    Head,
    /// Our own response: the client has no deadline.
    Answer,
}

// === impl ConnState ===

impl ConnState {
    /// Creates the state of an HTTP/1.1 connection on which the first request is awaited.
    pub(crate) fn new() -> Self {
        ConnState::with_session_permits(None)
    }

    /// Creates the state of an HTTP/2 connection with this maximum of concurrent streams.
    pub(crate) fn multiplexed(streams: u32) -> Self {
        let permits = usize::try_from(streams).unwrap_or(usize::MAX);
        let permits = Semaphore::new(permits.min(Semaphore::MAX_PERMITS));
        ConnState::with_session_permits(Some(Arc::new(permits)))
    }

    fn with_session_permits(session_permits: Option<Arc<Semaphore>>) -> Self {
        ConnState(Arc::new(ConnShared {
            in_flight: AtomicU32::new(0),
            head: AtomicBool::new(true),
            session_permits,
            notify: Notify::new(),
            overdue: AtomicBool::new(false),
            closing: AtomicBool::new(false),
            stalled: AtomicU32::new(0),
            refusing: AtomicBool::new(false),
            end: ConnEnd::default(),
        }))
    }

    /// Records that a head is complete and its request is being answered.
    pub(crate) fn begin_request(&self) -> InFlight {
        self.0.head.store(false, Ordering::Relaxed);
        self.0.in_flight.fetch_add(1, Ordering::Relaxed);
        self.0.end.begin_request(self.is_multiplexed());
        InFlight(Arc::new(InFlightGuard(self.clone())))
    }

    /// Completes when the connection's future has to be polled again. Returns whether the connection must close: it has
    /// been idle for too long, too many of its streams have stalled, or a request requires it.
    pub(crate) async fn notified(&self) -> bool {
        self.0.notify.notified().await;
        self.0.overdue.load(Ordering::Relaxed)
            || self.0.closing.load(Ordering::Relaxed)
            || self.0.stalled.load(Ordering::Relaxed) >= MAX_STALLED_STREAMS
    }

    /// Records a stream that was reset because its client did not read the response.
    pub(crate) fn record_stall(&self) {
        if self.0.stalled.fetch_add(1, Ordering::Relaxed) + 1 == MAX_STALLED_STREAMS {
            self.0.notify.notify_one();
        }
    }

    /// Returns how the connection ends.
    pub(crate) fn end(&self) -> &ConnEnd {
        &self.0.end
    }

    /// Records that hyper has refused a request.
    pub(crate) fn record_refusal(&self, status: u16) {
        self.0.end.record_refusal(status);
        self.0.head.store(false, Ordering::Relaxed);
        self.0.notify.notify_one();
    }

    /// Refuses new requests from now on: the client ignores the GOAWAY, or has not answered the PING after it.
    pub(crate) fn refuse_requests(&self) {
        self.0.refusing.store(true, Ordering::Relaxed);
    }

    /// Returns whether new requests are refused.
    pub(crate) fn is_refusing(&self) -> bool {
        self.0.refusing.load(Ordering::Relaxed)
    }

    /// Returns whether new requests are refused and every request has been answered.
    pub(crate) fn is_finished(&self) -> bool {
        self.is_refusing() && self.0.in_flight.load(Ordering::Relaxed) == 0
    }

    /// Returns whether several requests are being answered.
    pub(crate) fn is_shared(&self) -> bool {
        self.0.in_flight.load(Ordering::Relaxed) > 1
    }

    /// Sets whether the connection has been idle for too long; returns whether it had been before.
    pub(crate) fn set_overdue(&self, is_overdue: bool) -> bool {
        self.0.overdue.swap(is_overdue, Ordering::Relaxed)
    }

    /// Wakes the task of the connection ([`ConnState::notified`]).
    pub(crate) fn notify(&self) {
        self.0.notify.notify_one();
    }

    /// Returns whether a request head is awaited or has begun.
    fn is_awaited(&self) -> bool {
        self.awaiting() == Awaiting::Head
    }

    /// Completes when the connection must accept no further requests: on shutdown, but not while a request head is
    /// awaited. After a takeover, a client that has just connected still receives its first response from this process.
    pub(crate) async fn stopped(&self, tasks: &Tasks, sessions: &SessionRegistry) {
        tasks.stopping().await;
        // Evaluated again whenever the connection has been polled.
        let answered = poll_fn(|_| {
            if self.is_awaited() {
                Poll::Pending
            } else {
                Poll::Ready(())
            }
        });
        tokio::select! {
            () = answered => {}
            () = sessions.closing() => {}
        }
    }

    /// Returns whether it is an HTTP/2 connection.
    pub(crate) fn is_multiplexed(&self) -> bool {
        self.0.session_permits.is_some()
    }

    /// Returns what the connection is waiting for.
    pub(crate) fn awaiting(&self) -> Awaiting {
        match self.0.in_flight.load(Ordering::Relaxed) {
            0 if self.0.head.load(Ordering::Relaxed) => Awaiting::Head,
            0 => Awaiting::Idle,
            _ => Awaiting::Answer,
        }
    }

    /// Records received bytes. In HTTP/1.1 they begin the next request; in HTTP/2 they can be anything.
    pub(crate) fn on_bytes(&self) {
        if !self.is_multiplexed() && self.awaiting() == Awaiting::Idle {
            self.0.head.store(true, Ordering::Relaxed);
        }
    }
}

// === impl InFlight ===

impl InFlight {
    /// Returns the state of the connection.
    pub(crate) fn connection(&self) -> &ConnState {
        let InFlightGuard(connection) = &*self.0;
        connection
    }

    /// Returns the permit of a session in this connection, to be held until the session has ended. A stream that its
    /// client has reset no longer counts for HTTP/2, but its session waits for the backend's Close.
    ///
    /// At the limit, a session that is closing has [`SESSION_END_WAIT`] to end. In HTTP/1.1 there is no permit: the
    /// session takes over the connection.
    pub(crate) async fn acquire_session(
        &self,
    ) -> Result<Option<OwnedSemaphorePermit>, SessionsOfConnectionFull> {
        let InFlightGuard(ConnState(connection)) = &*self.0;
        let Some(permits) = connection.session_permits.clone() else {
            return Ok(None);
        };
        match timeout(SESSION_END_WAIT, permits.acquire_owned()).await {
            Ok(Ok(permit)) => Ok(Some(permit)),
            Ok(Err(_)) | Err(_) => Err(SessionsOfConnectionFull),
        }
    }

    /// Closes the HTTP/2 connection of the request gracefully: it accepts no further requests, and ends with its last
    /// stream.
    pub(crate) fn close_connection(&self) {
        let shared = &self.0.0.0;
        shared.closing.store(true, Ordering::Relaxed);
        shared.notify.notify_one();
    }
}

impl Drop for InFlightGuard {
    fn drop(&mut self) {
        let ConnShared {
            in_flight, notify, ..
        } = &*self.0.0;
        if in_flight.fetch_sub(1, Ordering::Relaxed) == 1 {
            // The connection must arm its next deadline, and no I/O event may ever wake it.
            notify.notify_one();
        }
    }
}

/// Streams of one HTTP/2 connection that may stall before the connection ends.
const MAX_STALLED_STREAMS: u32 = 10;

/// The time in which a closing session can make room for the next one of its connection: its lingering close takes up
/// to a second after the client's stream has ended.
const SESSION_END_WAIT: Duration = Duration::from_secs(2);
