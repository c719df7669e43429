//! Coalesces the writes of an HTTP/2 connection: h2 flushes after each DATA frame, and a hundred
//! sessions of one connection have a frame each.

use std::{
    io,
    pin::Pin,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    task::{Context, Poll, ready},
};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

/// A connection's stream, which buffers writes until [`WriteCoalescer::poll_with`] sends them. Clones share the same stream:
/// one belongs to the connection, one to the caller that polls it.
pub(super) struct WriteCoalescer<S>(Arc<Mutex<CoalescerInner<S>>>);

struct CoalescerInner<S> {
    io: S,
    /// Buffered bytes, from `sent` on; never more than [`MAX_PENDING`].
    written: Vec<u8>,
    sent: usize,
    /// Set while the kernel lacks written bytes: TLS keeps some of them until its socket accepts them.
    unflushed: bool,
    /// Set when the other tasks have run since the first of these bytes was written.
    waited: bool,
    /// The result of sending, for the connection to read.
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
            written: Vec::new(),
            sent: 0,
            unflushed: false,
            waited: false,
            failed: None,
        })))
    }

    /// Polls the connection, and sends what it has written. In `company`, all ready tasks run first, because
    /// their output can be sent in the same write.
    pub(super) fn poll_with<F: Future>(
        &self,
        cx: &mut Context<'_>,
        mut connection: Pin<&mut F>,
        coalesce: bool,
    ) -> Poll<F::Output> {
        loop {
            let polled = connection.as_mut().poll(cx);
            let mut it = self.lock();
            if !it.unflushed {
                return polled;
            }
            if polled.is_pending() && coalesce && !it.waited {
                it.waited = true;
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

    /// Locks the state, which is never held longer than a call.
    fn lock(&self) -> MutexGuard<'_, CoalescerInner<S>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

// === impl CoalescerInner ===

impl<S: AsyncRead + AsyncWrite + Unpin> CoalescerInner<S> {
    fn failed(&mut self) -> io::Result<()> {
        self.failed.take().map_or(Ok(()), Err)
    }

    fn poll_drain(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        while self.sent < self.written.len() {
            let rest = &self.written[self.sent..];
            match ready!(Pin::new(&mut self.io).poll_write(cx, rest)) {
                Ok(n) if n > 0 => self.sent += n,
                failed => {
                    self.forget();
                    self.unflushed = false;
                    return Poll::Ready(failed.and(Err(io::ErrorKind::WriteZero.into())));
                }
            }
        }
        self.forget();
        let flushed = ready!(Pin::new(&mut self.io).poll_flush(cx));
        self.unflushed = false;
        Poll::Ready(flushed)
    }

    /// The buffer is released, not cleared: an idle connection holds no buffer.
    fn forget(&mut self) {
        self.written = Vec::new();
        self.sent = 0;
        self.waited = false;
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin> AsyncRead for WriteCoalescer<S> {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
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
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        self.poll_write_vectored(cx, &[io::IoSlice::new(buf)])
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let mut it = self.lock();
        it.failed()?;
        if it.written.len() >= MAX_PENDING {
            ready!(it.poll_drain(cx))?;
        }
        let mut room = MAX_PENDING - it.written.len();
        let mut taken = 0;
        for buf in bufs {
            let fits = &buf[..buf.len().min(room)];
            it.written.extend_from_slice(fits);
            room -= fits.len();
            taken += fits.len();
        }
        it.unflushed |= taken > 0;
        Poll::Ready(Ok(taken))
    }

    fn is_write_vectored(&self) -> bool {
        true
    }

    /// The caller that polls the connection flushes.
    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(self.lock().failed())
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let mut it = self.lock();
        it.failed()?;
        ready!(it.poll_drain(cx))?;
        Pin::new(&mut it.io).poll_shutdown(cx)
    }
}

/// Sent by one write, in four full TLS records.
const MAX_PENDING: usize = 64 * 1024;

#[cfg(test)]
mod tests;
