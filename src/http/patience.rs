//! How long a client may take: the stream below hyper, which ends when its deadline passes.
//!
//! hyper has one timer for a request head, and it also cuts an idle keep-alive connection. Here the two are told
//! apart: `idle` until the first byte of a request, `request_head` from there to the end of its head, and `body_idle`
//! for a client that does not take its answer. An HTTP/2 connection is idle while it has no stream.

use crate::{
    splice::{Socket, Transport},
    wire::ServerStream,
};
use std::{
    any::Any,
    io,
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU32, Ordering},
    },
    task::{Context, Poll, ready},
    time::Duration,
};
use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    sync::Notify,
    time::{Instant, Sleep, sleep_until},
};

/// A client's stream while it speaks HTTP; a session takes the parts.
pub(super) struct TimeoutStream<S> {
    /// What outlives HTTP.
    pub(super) parts: StreamParts<S>,
    phase: ConnState,
    limits: ConnTimeouts,
    deadline: Pin<Box<Sleep>>,
    /// What `deadline` was set for.
    armed: Option<Awaiting>,
    /// Set while the client takes nothing: what it had taken by then.
    stalled: Option<u64>,
}

/// A stream and what is counted as long as it lives.
pub(super) struct StreamParts<S> {
    pub(super) io: S,
    pub(super) guard: Box<dyn Any + Send + Sync>,
}

/// The TLS stream of a client, boxed because an idle session holds it.
pub(super) type ClientStream = TimeoutStream<Box<ServerStream<Socket>>>;

/// Where a connection stands, shared with the one who answers its requests.
#[derive(Debug, Clone)]
pub(super) struct ConnState(Arc<ConnShared>);

#[derive(Debug)]
struct ConnShared {
    /// Requests being answered.
    busy: AtomicU32,
    /// A head is awaited, or has begun.
    head: AtomicBool,
    /// Several requests at a time, as HTTP/2 has them.
    multiplexed: bool,
    /// The connection is to look at its deadline again, or at `overdue`.
    notify: Notify,
    overdue: AtomicBool,
}

/// A request being answered; dropped when its answer is through.
#[derive(Debug)]
pub(super) struct InFlight(ConnState);

/// The deadlines of one connection.
#[derive(Debug, Clone, Copy)]
pub(super) struct ConnTimeouts {
    pub(super) request_head: Duration,
    pub(super) idle: Duration,
    pub(super) stalled: Duration,
}

/// What a client owes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Awaiting {
    /// Nothing: it may ask again, or leave.
    Idle,
    /// The rest of a request's head.
    Head,
    /// Nothing: it waits for us.
    Answer,
}

// === impl ConnState ===

impl ConnState {
    /// A connection from which the first request is awaited.
    pub(super) fn new(multiplexed: bool) -> Self {
        ConnState(Arc::new(ConnShared {
            busy: AtomicU32::new(0),
            head: AtomicBool::new(true),
            multiplexed,
            notify: Notify::new(),
            overdue: AtomicBool::new(false),
        }))
    }

    /// A head is complete: its request is being answered.
    pub(super) fn busy(&self) -> InFlight {
        self.0.head.store(false, Ordering::Relaxed);
        self.0.busy.fetch_add(1, Ordering::Relaxed);
        InFlight(self.clone())
    }

    /// Ends when the connection's future is to be polled again; says whether it has been idle for too long.
    pub(super) async fn notified(&self) -> bool {
        self.0.notify.notified().await;
        self.0.overdue.load(Ordering::Relaxed)
    }

    /// Whether several requests are being answered.
    pub(super) fn is_shared(&self) -> bool {
        self.0.busy.load(Ordering::Relaxed) > 1
    }

    /// Whether a request's head is awaited, or has begun.
    pub(super) fn is_awaited(&self) -> bool {
        self.awaiting() == Awaiting::Head
    }

    fn awaiting(&self) -> Awaiting {
        match self.0.busy.load(Ordering::Relaxed) {
            0 if self.0.head.load(Ordering::Relaxed) => Awaiting::Head,
            0 => Awaiting::Idle,
            _ => Awaiting::Answer,
        }
    }

    /// Bytes have come. Where one request follows the other, they begin the next; in HTTP/2 they can be anything.
    fn on_bytes(&self) {
        if !self.0.multiplexed && self.awaiting() == Awaiting::Idle {
            self.0.head.store(true, Ordering::Relaxed);
        }
    }
}

impl Drop for InFlight {
    fn drop(&mut self) {
        let ConnShared {
            busy,
            notify: nudge,
            ..
        } = &*self.0.0;
        if busy.fetch_sub(1, Ordering::Relaxed) == 1 {
            // Its connection owes something else now, and nothing may ever come that would make it look.
            nudge.notify_one();
        }
    }
}

// === impl TimeoutStream ===

impl<S> TimeoutStream<S> {
    /// A stream from which the first request is awaited: that wait is `request_head` long.
    pub(super) fn new(parts: StreamParts<S>, phase: ConnState, limits: ConnTimeouts) -> Self {
        let deadline = Box::pin(sleep_until(Instant::now() + limits.request_head));
        TimeoutStream {
            parts,
            phase,
            limits,
            deadline,
            armed: Some(Awaiting::Head),
            stalled: None,
        }
    }

    /// Ready with an error when the client has taken too long.
    fn poll_deadline(&mut self, cx: &mut Context<'_>) -> Poll<io::Error> {
        let owed = self.phase.awaiting();
        if self.armed != Some(owed) {
            self.armed = Some(owed);
            let wait = match owed {
                Awaiting::Idle => self.limits.idle,
                Awaiting::Head | Awaiting::Answer => self.limits.request_head,
            };
            self.phase.0.overdue.store(false, Ordering::Relaxed);
            self.deadline.as_mut().reset(Instant::now() + wait);
        }
        if owed == Awaiting::Answer {
            return Poll::Pending;
        }
        ready!(self.deadline.as_mut().poll(cx));
        let first = owed == Awaiting::Idle && !self.phase.0.overdue.swap(true, Ordering::Relaxed);
        if first && self.phase.0.multiplexed {
            // RFC 9113 §9.1: it is told by GOAWAY, and has a moment to take it.
            self.phase.0.notify.notify_one();
            let last = Instant::now() + self.limits.request_head;
            self.deadline.as_mut().reset(last);
            ready!(self.deadline.as_mut().poll(cx));
        }
        Poll::Ready(io::ErrorKind::TimedOut.into())
    }
}

impl<S: Transport> TimeoutStream<S> {
    /// Runs the clock of a client that does not take its answer. What counts is what the kernel has taken: TLS has room
    /// of its own, and `written` may have gone there.
    fn watch_write<T>(
        &mut self,
        cx: &mut Context<'_>,
        written: Poll<io::Result<T>>,
    ) -> Poll<io::Result<T>> {
        let taken = self.parts.io.taken();
        let moved = self.stalled != Some(taken);
        if written.is_ready() {
            if self.stalled.is_some() && moved {
                self.stalled = None;
                self.armed = None;
            }
            return written;
        }
        if moved {
            self.stalled = Some(taken);
            self.deadline
                .as_mut()
                .reset(Instant::now() + self.limits.stalled);
        }
        self.deadline
            .as_mut()
            .poll(cx)
            .map(|()| Err(io::ErrorKind::TimedOut.into()))
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for TimeoutStream<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let before = buf.filled().len();
        let read = Pin::new(&mut self.parts.io).poll_read(cx, buf);
        if read.is_ready() {
            if buf.filled().len() > before {
                self.phase.on_bytes();
            }
            return read;
        }
        match self.stalled {
            Some(_) => Poll::Pending,
            None => self.poll_deadline(cx).map(Err),
        }
    }
}

impl<S: Transport> AsyncWrite for TimeoutStream<S> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut self.parts.io).poll_write(cx, buf);
        self.watch_write(cx, written)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut self.parts.io).poll_write_vectored(cx, bufs);
        self.watch_write(cx, written)
    }

    fn is_write_vectored(&self) -> bool {
        self.parts.io.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let flushed = Pin::new(&mut self.parts.io).poll_flush(cx);
        self.watch_write(cx, flushed)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let shut = Pin::new(&mut self.parts.io).poll_shutdown(cx);
        self.watch_write(cx, shut)
    }
}
