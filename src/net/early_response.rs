//! A connection to a server that may answer and close before it has read the whole request.
//!
//! The server's close then resets the connection, and the next write fails although the response is in the receive
//! buffer: Linux keeps what has arrived before a reset. hyper gives up on the first error of either direction.

use std::{
    io::{self, IoSlice},
    pin::Pin,
    task::{Context, Poll},
};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

/// A stream whose writes succeed after the peer has closed the connection; the bytes are discarded. The reads return
/// what the peer has sent, and then its error or the end, so that the caller learns of the close soon.
#[derive(Debug)]
pub(crate) struct EarlyResponseStream<S> {
    io: S,
    is_closed_by_peer: bool,
}

// === impl EarlyResponseStream ===

impl<S> EarlyResponseStream<S> {
    pub(crate) fn new(io: S) -> Self {
        EarlyResponseStream {
            io,
            is_closed_by_peer: false,
        }
    }

    /// Turns the error of a close by the peer into the success of writing `len` bytes.
    fn tolerate(
        &mut self,
        written: Poll<io::Result<usize>>,
        len: usize,
    ) -> Poll<io::Result<usize>> {
        match written {
            Poll::Ready(Err(error)) if is_close(&error) => {
                self.is_closed_by_peer = true;
                Poll::Ready(Ok(len))
            }
            written => written,
        }
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for EarlyResponseStream<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_read(cx, buf)
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for EarlyResponseStream<S> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        if self.is_closed_by_peer {
            return Poll::Ready(Ok(buf.len()));
        }
        let written = Pin::new(&mut self.io).poll_write(cx, buf);
        self.tolerate(written, buf.len())
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let len = bufs.iter().map(|buf| buf.len()).sum();
        if self.is_closed_by_peer {
            return Poll::Ready(Ok(len));
        }
        let written = Pin::new(&mut self.io).poll_write_vectored(cx, bufs);
        self.tolerate(written, len)
    }

    fn is_write_vectored(&self) -> bool {
        self.io.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        if self.is_closed_by_peer {
            return Poll::Ready(Ok(()));
        }
        match Pin::new(&mut self.io).poll_flush(cx) {
            Poll::Ready(Err(error)) if is_close(&error) => {
                self.is_closed_by_peer = true;
                Poll::Ready(Ok(()))
            }
            flushed => flushed,
        }
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_shutdown(cx)
    }
}

fn is_close(error: &io::Error) -> bool {
    use io::ErrorKind::{BrokenPipe, ConnectionAborted, ConnectionReset};
    matches!(
        error.kind(),
        BrokenPipe | ConnectionReset | ConnectionAborted
    )
}
