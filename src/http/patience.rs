//! How long a client may take: the stream below hyper, which ends when its deadline passes.
//!
//! hyper has one timer for a request head, and it also cuts an idle keep-alive connection. Here the two are told
//! apart: `idle` until the first byte of a request, `request_head` from there to the end of its head, and `body_idle`
//! for a client that does not take its answer.

use crate::splice::Socket;
use std::{
    any::Any,
    io,
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicU8, Ordering},
    },
    task::{Context, Poll},
    time::Duration,
};
use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    time::{Instant, Sleep, sleep_until},
};
use tokio_rustls::server::TlsStream;

/// A client's stream while it speaks HTTP; a session takes the parts.
pub(super) struct Patient<S> {
    /// What outlives HTTP.
    pub(super) parts: StreamParts<S>,
    phase: Phase,
    limits: Limits,
    deadline: Pin<Box<Sleep>>,
    /// The phase that `deadline` was set for.
    armed: u8,
    stalled: bool,
}

/// A stream and what is counted as long as it lives.
pub(super) struct StreamParts<S> {
    pub(super) io: S,
    pub(super) guard: Box<dyn Any + Send + Sync>,
}

/// The TLS stream of a client, boxed because an idle session holds it.
pub(super) type ClientStream = Patient<Box<TlsStream<Socket>>>;

/// Where a connection stands, shared with the one who answers its requests.
#[derive(Debug, Clone, Default)]
pub(super) struct Phase(Arc<AtomicU8>);

/// A request being answered; dropped when its answer is through.
#[derive(Debug)]
pub(super) struct Busy(Phase);

/// The deadlines of one connection.
#[derive(Debug, Clone, Copy)]
pub(super) struct Limits {
    pub(super) request_head: Duration,
    pub(super) idle: Duration,
    pub(super) stalled: Duration,
}

const IDLE: u8 = 0;
const HEAD: u8 = 1;
const BUSY: u8 = 2;
/// No phase: forces the timer to be set.
const UNARMED: u8 = u8::MAX;

// === impl Phase ===

impl Phase {
    /// A head is complete: its request is being answered.
    pub(super) fn busy(&self) -> Busy {
        self.0.store(BUSY, Ordering::Relaxed);
        Busy(self.clone())
    }
}

impl Drop for Busy {
    fn drop(&mut self) {
        self.0.0.store(IDLE, Ordering::Relaxed);
    }
}

// === impl Patient ===

impl<S> Patient<S> {
    /// A stream from which the first request is awaited: that wait is `request_head` long.
    pub(super) fn new(parts: StreamParts<S>, phase: Phase, limits: Limits) -> Self {
        phase.0.store(HEAD, Ordering::Relaxed);
        let deadline = Box::pin(sleep_until(Instant::now() + limits.request_head));
        Patient {
            parts,
            phase,
            limits,
            deadline,
            armed: HEAD,
            stalled: false,
        }
    }

    /// Ready with an error when the client has taken too long.
    fn poll_deadline(&mut self, cx: &mut Context<'_>) -> Poll<io::Error> {
        let phase = self.phase.0.load(Ordering::Relaxed);
        if phase != self.armed {
            self.armed = phase;
            let wait = match phase {
                IDLE => self.limits.idle,
                _ => self.limits.request_head,
            };
            self.deadline.as_mut().reset(Instant::now() + wait);
        }
        if phase == BUSY {
            return Poll::Pending;
        }
        self.deadline
            .as_mut()
            .poll(cx)
            .map(|()| io::ErrorKind::TimedOut.into())
    }

    /// Runs the clock of a client that does not take its answer; `written` is what it took.
    fn watch_write<T>(
        &mut self,
        cx: &mut Context<'_>,
        written: Poll<io::Result<T>>,
    ) -> Poll<io::Result<T>> {
        if written.is_ready() {
            if self.stalled {
                self.stalled = false;
                self.armed = UNARMED;
            }
            return written;
        }
        if !self.stalled {
            self.stalled = true;
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

impl<S: AsyncRead + Unpin> AsyncRead for Patient<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let before = buf.filled().len();
        let read = Pin::new(&mut self.parts.io).poll_read(cx, buf);
        if read.is_ready() {
            if buf.filled().len() > before {
                // The first byte of a request; no other phase is left by reading.
                let _ =
                    self.phase
                        .0
                        .compare_exchange(IDLE, HEAD, Ordering::Relaxed, Ordering::Relaxed);
            }
            return read;
        }
        match self.stalled {
            true => Poll::Pending,
            false => self.poll_deadline(cx).map(Err),
        }
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Patient<S> {
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
