//! Coalesces the writes of an HTTP/2 connection: h2 flushes after each DATA frame, and a hundred
//! sessions of one connection have a frame each.

use std::{
    io,
    pin::Pin,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    task::{self, Poll, ready},
};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

/// A connection's stream, which buffers writes until [`WriteCoalescer::poll_with`] sends them. Clones share the same
/// stream: one belongs to the connection, one to the caller that polls it.
pub(super) struct WriteCoalescer<S>(Arc<Mutex<CoalescerInner<S>>>);

struct CoalescerInner<S> {
    io: S,
    /// Buffered bytes, from `sent` on; never more than [`MAX_PENDING`].
    pending: Vec<u8>,
    sent: usize,
    /// Set until all written bytes have reached the kernel: TLS keeps some of them until its socket accepts them.
    is_unflushed: bool,
    /// Set when the other tasks have run since the first of these bytes was written.
    yielded: bool,
    /// The error of a failed write, which the connection receives by its next call.
    failed: Option<io::Error>,
}

// === impl WriteCoalescer ===

impl<S> Clone for WriteCoalescer<S> {
    fn clone(&self) -> Self {
        WriteCoalescer(self.0.clone())
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin> WriteCoalescer<S> {
    pub(super) fn new(io: S) -> Self {
        WriteCoalescer(Arc::new(Mutex::new(CoalescerInner {
            io,
            pending: Vec::new(),
            sent: 0,
            is_unflushed: false,
            yielded: false,
            failed: None,
        })))
    }

    /// Polls the connection, and sends what it has written. If `coalesce` is set, all ready tasks run first, because
    /// their output can be sent in the same write.
    pub(super) fn poll_with<F: Future>(
        &self,
        cx: &mut task::Context<'_>,
        mut connection: Pin<&mut F>,
        coalesce: bool,
    ) -> Poll<F::Output> {
        loop {
            let polled = connection.as_mut().poll(cx);
            let mut it = self.lock();
            if !it.is_unflushed {
                return polled;
            }
            if polled.is_pending() && coalesce && !it.yielded {
                it.yielded = true;
                // A task that is woken while it runs goes to the end of the queue.
                cx.waker().wake_by_ref();
                return Poll::Pending;
            }
            match it.poll_drain(cx) {
                // The connection sees the error at once, and ends.
                Poll::Ready(Err(error)) if polled.is_pending() => it.failed = Some(error),
                _ => return polled,
            }
        }
    }

    /// Locks the state. The lock is never held longer than one call.
    fn lock(&self) -> MutexGuard<'_, CoalescerInner<S>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

// === impl CoalescerInner ===

impl<S: AsyncRead + AsyncWrite + Unpin> CoalescerInner<S> {
    fn failed(&mut self) -> io::Result<()> {
        self.failed.take().map_or(Ok(()), Err)
    }

    fn poll_drain(&mut self, cx: &mut task::Context<'_>) -> Poll<io::Result<()>> {
        while self.sent < self.pending.len() {
            let rest = &self.pending[self.sent..];
            match ready!(Pin::new(&mut self.io).poll_write(cx, rest)) {
                Ok(n) if n > 0 => self.sent += n,
                failed => {
                    self.release_buffer();
                    self.is_unflushed = false;
                    return Poll::Ready(failed.and(Err(io::ErrorKind::WriteZero.into())));
                }
            }
        }
        self.release_buffer();
        let flushed = ready!(Pin::new(&mut self.io).poll_flush(cx));
        self.is_unflushed = false;
        Poll::Ready(flushed)
    }

    /// Frees the buffer instead of clearing it, so that an idle connection holds none.
    fn release_buffer(&mut self) {
        self.pending = Vec::new();
        self.sent = 0;
        self.yielded = false;
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin> AsyncRead for WriteCoalescer<S> {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut task::Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let mut it = self.lock();
        it.failed()?;
        Pin::new(&mut it.io).poll_read(cx, buf)
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin> AsyncWrite for WriteCoalescer<S> {
    fn poll_write(
        self: Pin<&mut Self>,
        cx: &mut task::Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        self.poll_write_vectored(cx, &[io::IoSlice::new(buf)])
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut task::Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let mut it = self.lock();
        it.failed()?;
        if it.pending.len() >= MAX_PENDING {
            ready!(it.poll_drain(cx))?;
        }
        let mut free = MAX_PENDING - it.pending.len();
        let mut taken = 0;
        for buf in bufs {
            let fits = &buf[..buf.len().min(free)];
            it.pending.extend_from_slice(fits);
            free -= fits.len();
            taken += fits.len();
        }
        it.is_unflushed |= taken > 0;
        Poll::Ready(Ok(taken))
    }

    fn is_write_vectored(&self) -> bool {
        true
    }

    /// Does not flush: `poll_with` does that.
    fn poll_flush(self: Pin<&mut Self>, _: &mut task::Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(self.lock().failed())
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut task::Context<'_>) -> Poll<io::Result<()>> {
        let mut it = self.lock();
        it.failed()?;
        ready!(it.poll_drain(cx))?;
        Pin::new(&mut it.io).poll_shutdown(cx)
    }
}

/// Four full TLS records, sent by one write.
const MAX_PENDING: usize = 64 * 1024;

#[cfg(test)]
mod tests;
