//! A client's stream with compressed messages, presented to the relay as a stream with plain messages (RFC 7692).
//!
//! The relay reads and writes plain frames, with the same bounds and the same rules as without compression. While the
//! session is idle, only the client's window is held, if the client keeps its context.

use crate::{
    net::{random::random_bytes, socket::Transport},
    proto::{
        deflate::{DeflateParams, compress::FrameDeflater, inflate::FrameInflater},
        frame_tracker::{Bounds, Violation},
    },
    splice::leg::{LegIo, Unseen},
};
use bytes::Bytes;
use std::{
    cell::RefCell,
    io,
    pin::Pin,
    task::{Context, Poll, ready},
};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

/// A stream that uses permessage-deflate.
#[derive(Debug)]
pub(crate) struct DeflateStream<C> {
    io: C,
    inflater: FrameInflater,
    deflater: FrameDeflater,
    /// Received bytes that are not inflated yet.
    raw: Vec<u8>,
    /// Plain frames to be read, from `read` on.
    plain: Vec<u8>,
    read: usize,
    /// Compressed frames to be written, from `written` on.
    compressed: Vec<u8>,
    written: usize,
    violation: Option<Violation>,
    /// Whether the violation was returned to the reader: further input is discarded.
    violation_reported: bool,
    /// The received bytes beyond their inflated length, and the received frames.
    unseen: Unseen,
}

// === impl DeflateStream ===

impl<C> DeflateStream<C> {
    /// Creates the stream; `early` are the bytes received directly after the handshake.
    pub(crate) fn new(io: C, params: DeflateParams, early: &Bytes) -> Self {
        DeflateStream {
            io,
            inflater: FrameInflater::new(params),
            deflater: FrameDeflater::new(params),
            raw: early.to_vec(),
            plain: Vec::new(),
            read: 0,
            compressed: Vec::new(),
            written: 0,
            violation: None,
            violation_reported: false,
            unseen: Unseen::default(),
        }
    }

    /// Copies the plain bytes to `buf`. Returns false if there are none.
    fn copy_plain(&mut self, buf: &mut ReadBuf<'_>) -> bool {
        let rest = self.plain.get(self.read..).unwrap_or_default();
        let here = rest.get(..buf.remaining()).unwrap_or(rest);
        let has_bytes = !here.is_empty();
        buf.put_slice(here);
        self.read += here.len();
        if self.read == self.plain.len() {
            // Replaced instead of cleared, so that an idle session holds no buffer.
            (self.plain, self.read) = (Vec::new(), 0);
        }
        has_bytes
    }

    /// Inflates about `max_len` bytes at most.
    fn inflate(&mut self, max_len: usize) {
        let advanced = self
            .inflater
            .advance(&self.raw, &mut self.plain, max_len, random_bytes);
        let consumed = *advanced.as_ref().unwrap_or(&0);
        let bytes = consumed.saturating_sub(self.plain.len());
        let bytes = u32::try_from(bytes).unwrap_or(u32::MAX);
        let frames = self.inflater.take_frames();
        self.unseen = Unseen {
            bytes: self.unseen.bytes.saturating_add(bytes),
            frames: self.unseen.frames.saturating_add(frames),
        };
        match advanced {
            Ok(consumed) if consumed == self.raw.len() => self.raw = Vec::new(),
            Ok(consumed) => drop(self.raw.drain(..consumed)),
            Err(violation) => (self.raw, self.violation) = (Vec::new(), Some(violation)),
        }
    }
}

impl<C: AsyncRead + Unpin> AsyncRead for DeflateStream<C> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let this = &mut *self;
        let mut read_without_output = 0;
        loop {
            if this.copy_plain(buf) {
                return Poll::Ready(Ok(()));
            }
            if let Some(violation) = this.violation {
                let was_reported = std::mem::replace(&mut this.violation_reported, true);
                return if was_reported {
                    Pin::new(&mut this.io).poll_read(cx, buf)
                } else {
                    Poll::Ready(Err(io::Error::other(violation)))
                };
            }
            let before = this.raw.len();
            this.inflate(buf.remaining());
            if !this.plain.is_empty() || this.raw.len() != before || this.violation.is_some() {
                continue;
            }
            if read_without_output >= CHUNK_LEN {
                // The pump charges the discarded bytes before more is read, and other tasks run in between.
                cx.waker().wake_by_ref();
                return Poll::Pending;
            }
            let read = ready!(SCRATCH.with_borrow_mut(|scratch| {
                let mut more = ReadBuf::new(scratch);
                let read = ready!(Pin::new(&mut this.io).poll_read(cx, &mut more));
                this.raw.extend_from_slice(more.filled());
                Poll::Ready(read.map(|()| more.filled().len()))
            }));
            match read? {
                0 => return Poll::Ready(Ok(())),
                n => read_without_output += n,
            }
        }
    }
}

impl<C: AsyncWrite + Unpin> DeflateStream<C> {
    fn poll_write_compressed(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        while self.written < self.compressed.len() {
            let rest = self.compressed.get(self.written..).unwrap_or_default();
            match ready!(Pin::new(&mut self.io).poll_write(cx, rest))? {
                0 => return Poll::Ready(Err(io::ErrorKind::WriteZero.into())),
                n => self.written += n,
            }
        }
        (self.compressed, self.written) = (Vec::new(), 0);
        Poll::Ready(Ok(()))
    }
}

impl<C: AsyncWrite + Unpin> AsyncWrite for DeflateStream<C> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        ready!(self.poll_write_compressed(cx))?;
        let this = &mut *self;
        let here = buf.get(..CHUNK_LEN).unwrap_or(buf);
        this.deflater.advance(here, &mut this.compressed);
        // Bytes that the kernel does not accept now are written by the next call or a flush.
        match this.poll_write_compressed(cx) {
            Poll::Ready(Err(error)) => Poll::Ready(Err(error)),
            _ => Poll::Ready(Ok(here.len())),
        }
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        ready!(self.poll_write_compressed(cx))?;
        Pin::new(&mut self.io).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        ready!(self.poll_write_compressed(cx))?;
        Pin::new(&mut self.io).poll_shutdown(cx)
    }
}

impl<C: Transport> Transport for DeflateStream<C> {
    fn bytes_accepted(&self) -> u64 {
        self.io.bytes_accepted()
    }

    fn reset(&self) {
        self.io.reset();
    }

    fn cork(&self) {
        self.io.cork();
    }

    fn poll_hang_up(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        self.io.poll_hang_up(cx)
    }
}

impl<C: Transport> LegIo for DeflateStream<C> {
    fn violation(&self) -> Option<Violation> {
        self.violation
    }

    fn set_frame_bounds(&mut self, bounds: &Bounds) -> bool {
        self.inflater.set_bounds(bounds);
        true
    }

    fn take_unseen(&mut self) -> Unseen {
        std::mem::take(&mut self.unseen)
    }
}

thread_local! {
    static SCRATCH: RefCell<Box<[u8]>> = RefCell::new(vec![0; CHUNK_LEN].into_boxed_slice());
}

/// Bytes that are read or compressed at once, which bounds the buffers.
const CHUNK_LEN: usize = 16 * 1024;
