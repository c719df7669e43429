//! Client deadlines: a stream below hyper that ends when its deadline passes.
//!
//! hyper has one timer for a request head, and it also cuts an idle keep-alive connection. Here the two are separate:
//! `idle` until the first byte of a request, `request_head` from there to the end of its head, and `body_idle` for a
//! client that does not read its response. An HTTP/2 connection is idle while it has no stream.
//!
//! The stream also performs the lingering close of a connection whose client may still be sending a request body, and
//! replaces the bare response with which hyper refuses a request that it cannot parse.

use crate::{
    config,
    http::{
        conn_end::ConnEnd,
        parse_refusal::ParseRefusal,
        progress::{ProgressLimits, ProgressMeter},
    },
    lifecycle::tasks::Tasks,
    net::{
        linger::{LingeringClose, STOPPING_LINGER},
        socket::{Socket, Transport},
        tls_stream::ServerStream,
    },
    registry::SessionRegistry,
};
use std::{
    any::Any,
    future::poll_fn,
    io,
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU32, Ordering},
    },
    task::{self, Poll, ready},
    time::Duration,
};
use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    sync::{Notify, OwnedSemaphorePermit, Semaphore},
    time::{Instant, Sleep, sleep_until, timeout},
};

/// A client's stream while it carries HTTP; a session takes its parts.
pub(crate) struct TimeoutStream<S> {
    /// The part that outlives HTTP.
    pub(crate) parts: StreamParts<S>,
    state: ConnState,
    timeouts: ConnTimeouts,
    deadline: Pin<Box<Sleep>>,
    /// The state for which `deadline` is armed.
    deadline_for: Option<Awaiting>,
    /// Set while the client accepts no bytes: the count of bytes accepted before that.
    blocked_at: Option<u64>,
    /// The progress of a client that does not accept bytes.
    meter: ProgressMeter,
    /// The count of accepted bytes that `meter` knows.
    metered: u64,
    /// Replaces hyper's response to a request that it cannot parse.
    refusal: Option<Box<ParseRefusal>>,
    /// Set when the client has exceeded a deadline: its connection ends without a lingering close.
    is_expired: bool,
    /// Set once close_notify and FIN have been sent.
    linger: Option<Box<LingeringClose>>,
}

/// What a connection holds until it or its session ends: permits and gauges, which are released on drop.
pub(crate) type ConnectionGuard = Box<dyn Any + Send + Sync>;

/// A stream and the permits that are held as long as it exists.
pub(crate) struct StreamParts<S> {
    pub(crate) io: S,
    pub(crate) guard: ConnectionGuard,
}

/// The TLS stream of a client, boxed because an idle session holds it.
pub(crate) type ClientStream = TimeoutStream<Box<ServerStream<Socket>>>;

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

/// The deadlines of one connection.
#[derive(Debug, Clone, Copy)]
pub(crate) struct ConnTimeouts {
    request_head: Duration,
    idle: Duration,
    /// The limits of a client that does not read a response.
    write: ProgressLimits,
}

/// What the connection is waiting for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Awaiting {
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
    fn record_refusal(&self, status: u16) {
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

    /// Returns whether a request head is awaited or has begun.
    fn is_awaited(&self) -> bool {
        self.awaiting() == Awaiting::Head
    }

    /// Completes when the connection must accept no further requests: on shutdown, but not while a request head is
    /// awaited. After a takeover, a client that has just connected still receives its first response from this process.
    pub(crate) async fn stopped(&self, tasks: &Tasks, sessions: &SessionRegistry) {
        tasks.stopping().await;
        // Evaluated again whenever the connection has been polled.
        let answered = poll_fn(|_| match self.is_awaited() {
            true => Poll::Pending,
            false => Poll::Ready(()),
        });
        tokio::select! {
            () = answered => {}
            () = sessions.closing() => {}
        }
    }

    fn is_multiplexed(&self) -> bool {
        self.0.session_permits.is_some()
    }

    fn awaiting(&self) -> Awaiting {
        match self.0.in_flight.load(Ordering::Relaxed) {
            0 if self.0.head.load(Ordering::Relaxed) => Awaiting::Head,
            0 => Awaiting::Idle,
            _ => Awaiting::Answer,
        }
    }

    /// Records received bytes. In HTTP/1.1 they begin the next request; in HTTP/2 they can be anything.
    fn on_bytes(&self) {
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

// === impl ConnTimeouts ===

impl ConnTimeouts {
    /// Takes the deadlines from the configuration.
    pub(crate) fn new(limits: &config::Limits) -> Self {
        ConnTimeouts {
            request_head: limits.request_head.0,
            idle: limits.idle.0,
            write: ProgressLimits::of_client(limits),
        }
    }

    /// Returns the same deadlines without a minimum rate. The streams of HTTP/2 are measured separately.
    pub(crate) fn without_rate(self) -> Self {
        ConnTimeouts {
            write: self.write.without_rate(),
            ..self
        }
    }

    /// Returns the time in which a client must read a GOAWAY.
    pub(crate) fn goaway(&self) -> Duration {
        self.request_head
    }
}

// === impl TimeoutStream ===

impl<S> TimeoutStream<S> {
    /// Creates a stream on which the first request is awaited, for at most `request_head`.
    pub(crate) fn new(parts: StreamParts<S>, state: ConnState, timeouts: ConnTimeouts) -> Self {
        let deadline = Box::pin(sleep_until(Instant::now() + timeouts.request_head));
        TimeoutStream {
            parts,
            state,
            timeouts,
            deadline,
            deadline_for: Some(Awaiting::Head),
            blocked_at: None,
            meter: ProgressMeter::new(timeouts.write),
            metered: 0,
            refusal: None,
            is_expired: false,
            linger: None,
        }
    }

    /// Returns an error when the client has exceeded its deadline.
    fn poll_deadline(&mut self, cx: &mut task::Context<'_>) -> Poll<io::Error> {
        let awaiting = self.state.awaiting();
        if self.deadline_for != Some(awaiting) {
            self.deadline_for = Some(awaiting);
            let wait = match awaiting {
                Awaiting::Idle => self.timeouts.idle,
                Awaiting::Head | Awaiting::Answer => self.timeouts.request_head,
            };
            self.state.0.overdue.store(false, Ordering::Relaxed);
            self.deadline.as_mut().reset(Instant::now() + wait);
        }
        if awaiting == Awaiting::Answer {
            return Poll::Pending;
        }
        ready!(self.poll_timer(cx));
        let first =
            awaiting == Awaiting::Idle && !self.state.0.overdue.swap(true, Ordering::Relaxed);
        if first && self.state.is_multiplexed() {
            // RFC 9113 §9.1: the connection ends with GOAWAY, and the client has a short time to read it.
            self.state.0.notify.notify_one();
            let last = Instant::now() + self.timeouts.request_head;
            self.deadline.as_mut().reset(last);
            ready!(self.poll_timer(cx));
        }
        self.is_expired = true;
        Poll::Ready(io::ErrorKind::TimedOut.into())
    }

    /// Returns whether the client may still be sending what will not be read.
    fn must_linger(&self) -> bool {
        !self.is_expired && (self.refusal.is_some() || self.state.end().is_unread())
    }

    /// Returns whether HTTP/1.1 writes a response that the service has not given.
    fn is_unsolicited(&self) -> bool {
        !self.state.is_multiplexed() && !self.state.end().owes_response()
    }

    /// Returns `Ready` at the deadline, also if the task has used up its budget. Otherwise a client that sends without
    /// pause would postpone it.
    fn poll_timer(&mut self, cx: &mut task::Context<'_>) -> Poll<()> {
        if Instant::now() >= self.deadline.deadline() {
            return Poll::Ready(());
        }
        self.deadline.as_mut().poll(cx)
    }
}

impl<S: Transport> TimeoutStream<S> {
    /// Runs the timer of a client that does not read its response. Only bytes accepted by the kernel count: TLS has a
    /// buffer of its own, and `written` may include bytes in it.
    fn watch_write<T>(
        &mut self,
        cx: &mut task::Context<'_>,
        written: Poll<io::Result<T>>,
    ) -> Poll<io::Result<T>> {
        let accepted = self.parts.io.bytes_accepted();
        let moved = self.blocked_at != Some(accepted);
        if written.is_ready() {
            if self.blocked_at.is_some() && moved {
                let now = Instant::now();
                self.record_accepted(accepted, now);
                self.meter.stop(now);
                self.blocked_at = None;
                self.deadline_for = None;
            }
            return written;
        }
        if moved {
            let now = Instant::now();
            self.meter.wait(now);
            self.record_accepted(accepted, now);
            self.blocked_at = Some(accepted);
            self.arm_write_deadline();
        }
        loop {
            ready!(self.poll_timer(cx));
            if self.meter.is_overdue(Instant::now()) {
                return Poll::Ready(Err(io::ErrorKind::TimedOut.into()));
            }
            self.arm_write_deadline();
        }
    }

    /// Writes the refusal instead of `len` bytes of hyper, which begin with `head`.
    fn poll_refuse(
        &mut self,
        cx: &mut task::Context<'_>,
        head: &[u8],
        len: usize,
    ) -> Poll<io::Result<usize>> {
        let state = &self.state;
        let refusal = self.refusal.get_or_insert_with(|| {
            let refusal = Box::new(ParseRefusal::new(head));
            state.record_refusal(refusal.status());
            refusal
        });
        let written = refusal.poll_write(cx, &mut self.parts.io);
        self.watch_write(cx, written.map_ok(|()| len))
    }

    fn poll_linger(&mut self, cx: &mut task::Context<'_>) -> Poll<()> {
        let now = Instant::now();
        let linger = self
            .linger
            .get_or_insert_with(|| Box::new(LingeringClose::begin(now)));
        if self.state.end().take_hastened() {
            linger.end_by(now + STOPPING_LINGER);
        }
        linger.poll(cx, &mut self.parts.io, self.deadline.as_mut())
    }

    fn record_accepted(&mut self, accepted: u64, now: Instant) {
        self.meter.record_bytes(accepted - self.metered, now);
        self.metered = accepted;
    }

    fn arm_write_deadline(&mut self) {
        if let Some(deadline) = self.meter.deadline() {
            self.deadline.as_mut().reset(deadline);
        }
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for TimeoutStream<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut task::Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let before = buf.filled().len();
        let read = Pin::new(&mut self.parts.io).poll_read(cx, buf);
        if read.is_ready() {
            if buf.filled().len() > before {
                self.state.on_bytes();
            }
            // Data that is always available must not hide the deadline.
            if self.blocked_at.is_none()
                && self.state.awaiting() != Awaiting::Answer
                && let Poll::Ready(error) = self.poll_deadline(cx)
            {
                return Poll::Ready(Err(error));
            }
            return read;
        }
        match self.blocked_at {
            Some(_) => Poll::Pending,
            None => self.poll_deadline(cx).map(Err),
        }
    }
}

impl<S: Transport> AsyncWrite for TimeoutStream<S> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut task::Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        if self.is_unsolicited() {
            return self.poll_refuse(cx, buf, buf.len());
        }
        let written = Pin::new(&mut self.parts.io).poll_write(cx, buf);
        self.watch_write(cx, written)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut task::Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        if self.is_unsolicited() {
            let head = bufs.first().map_or(&[][..], |buf| buf);
            let len = bufs.iter().map(|buf| buf.len()).sum();
            return self.poll_refuse(cx, head, len);
        }
        let written = Pin::new(&mut self.parts.io).poll_write_vectored(cx, bufs);
        self.watch_write(cx, written)
    }

    fn is_write_vectored(&self) -> bool {
        self.parts.io.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut task::Context<'_>) -> Poll<io::Result<()>> {
        let flushed = Pin::new(&mut self.parts.io).poll_flush(cx);
        if flushed.is_ready() && self.state.awaiting() != Awaiting::Answer {
            // hyper flushes when it has written everything.
            self.state.end().responses_written();
        }
        self.watch_write(cx, flushed)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut task::Context<'_>) -> Poll<io::Result<()>> {
        if self.linger.is_none() {
            let shut = Pin::new(&mut self.parts.io).poll_shutdown(cx);
            ready!(self.watch_write(cx, shut))?;
            if !self.must_linger() {
                return Poll::Ready(Ok(()));
            }
        }
        self.poll_linger(cx).map(Ok)
    }
}

/// Streams of one HTTP/2 connection that may stall before the connection ends.
const MAX_STALLED_STREAMS: u32 = 10;

/// The time in which a closing session can make room for the next one of its connection: its lingering close takes up
/// to a second after the client's stream has ended.
const SESSION_END_WAIT: Duration = Duration::from_secs(2);
