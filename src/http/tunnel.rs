//! A WebSocket inside an HTTP/2 connection: one stream of many (RFC 8441).

use crate::splice::Transport;
use hyper::upgrade::Upgraded;
use hyper_util::rt::TokioIo;
use std::{
    io,
    pin::Pin,
    task::{self, Poll},
};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

/// The client's leg of an extended CONNECT.
#[derive(Debug)]
pub(super) struct H2Stream {
    io: TokioIo<Upgraded>,
    bytes_accepted: u64,
    /// The read error, reported after the bytes that were read.
    read_error: Option<io::Error>,
}

// === impl H2Stream ===

impl H2Stream {
    pub(super) fn new(upgraded: Upgraded) -> Self {
        H2Stream {
            io: TokioIo::new(upgraded),
            bytes_accepted: 0,
            read_error: None,
        }
    }
}

impl Transport for H2Stream {
    /// Returns what the stream's queue has accepted, which is a few chunks ahead of the client's flow control.
    fn bytes_accepted(&self) -> u64 {
        self.bytes_accepted
    }

    /// Does nothing: a drop ends the stream.
    fn reset(&self) {}
}

impl AsyncRead for H2Stream {
    /// Reads all available bytes: hyper returns one DATA frame at a time, and one read becomes one write to the
    /// backend.
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut task::Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        if let Some(error) = self.read_error.take() {
            return Poll::Ready(Err(error));
        }
        let before = buf.filled().len();
        loop {
            let had = buf.filled().len();
            let read = Pin::new(&mut self.io).poll_read(cx, buf);
            let is_more = buf.filled().len() > had && buf.remaining() > 0;
            match read {
                Poll::Ready(Ok(())) if is_more => {}
                read if had == before => return read,
                Poll::Ready(Err(error)) => {
                    self.read_error = Some(error);
                    return Poll::Ready(Ok(()));
                }
                Poll::Ready(Ok(())) | Poll::Pending => return Poll::Ready(Ok(())),
            }
        }
    }
}

impl AsyncWrite for H2Stream {
    /// Writes chunk by chunk: hyper copies its input, and queues up to three chunks.
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut task::Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        let chunk = &buf[..buf.len().min(CHUNK_LEN)];
        let written = Pin::new(&mut self.io).poll_write(cx, chunk);
        if let Poll::Ready(Ok(n)) = written {
            self.bytes_accepted += n as u64;
        }
        written
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut task::Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut task::Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_shutdown(cx)
    }
}

/// Two DATA frames of the usual size (RFC 9113 §4.2).
const CHUNK_LEN: usize = 32 * 1024;
