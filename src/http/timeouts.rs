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
        conn_state::{Awaiting, ConnState},
        parse_refusal::ParseRefusal,
        progress::{ProgressLimits, ProgressMeter},
    },
    net::{
        linger::{LingeringClose, STOPPING_LINGER},
        socket::{Socket, Transport},
        tls_stream::ServerStream,
    },
};
use std::{
    any::Any,
    io,
    pin::Pin,
    task::{self, Poll, ready},
    time::Duration,
};
use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    time::{Instant, Sleep, sleep_until},
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

/// The deadlines of one connection.
#[derive(Debug, Clone, Copy)]
pub(crate) struct ConnTimeouts {
    request_head: Duration,
    idle: Duration,
    /// The limits of a client that does not read a response.
    write: ProgressLimits,
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
            self.state.set_overdue(false);
            self.deadline.as_mut().reset(Instant::now() + wait);
        }
        if awaiting == Awaiting::Answer {
            return Poll::Pending;
        }
        ready!(self.poll_timer(cx));
        let first = awaiting == Awaiting::Idle && !self.state.set_overdue(true);
        if first && self.state.is_multiplexed() {
            // RFC 9113 §9.1: the connection ends with GOAWAY, and the client has a short time to read it.
            self.state.notify();
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
