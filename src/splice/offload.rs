//! A client's stream with compressed messages, presented to the relay as a stream with plain messages (RFC 7692).
//!
//! The relay is not aware of it: it reads and writes plain frames, with the same bounds and the same rules. While the
//! session is idle, only the client's window is held, if the client keeps one.

use super::{Transport, random::random_bytes};
use crate::proto::{
    deflate::{DeflateParams, FrameDeflater, FrameInflater},
    track::{Bounds, Violation},
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
pub struct DeflateStream<C> {
    io: C,
    inflating: FrameInflater,
    deflating: FrameDeflater,
    /// Received bytes that are not inflated yet.
    raw: Vec<u8>,
    /// Plain frames to be read, from `read` on.
    plain: Vec<u8>,
    read: usize,
    /// Compressed frames to be written, from `written` on.
    packed: Vec<u8>,
    written: usize,
    violation: Option<Violation>,
    /// Whether the violation was returned to the reader: further input is discarded.
    violation_reported: bool,
    /// Number of received bytes that exceed their inflated length.
    surplus: usize,
}

// === impl DeflateStream ===

impl<C> DeflateStream<C> {
    /// Creates the stream; `early` are the bytes received directly after the handshake.
    pub fn new(io: C, agreement: DeflateParams, early: &Bytes) -> Self {
        DeflateStream {
            io,
            inflating: FrameInflater::new(agreement),
            deflating: FrameDeflater::new(agreement),
            raw: early.to_vec(),
            plain: Vec::new(),
            read: 0,
            packed: Vec::new(),
            written: 0,
            violation: None,
            violation_reported: false,
            surplus: 0,
        }
    }

    /// Copies the plain bytes to `buf`. Returns false if there are none.
    fn hand_over(&mut self, buf: &mut ReadBuf<'_>) -> bool {
        let rest = self.plain.get(self.read..).unwrap_or_default();
        let here = rest.get(..buf.remaining()).unwrap_or(rest);
        let some = !here.is_empty();
        buf.put_slice(here);
        self.read += here.len();
        if self.read == self.plain.len() {
            // Replaced instead of cleared, so that an idle session holds no buffer.
            (self.plain, self.read) = (Vec::new(), 0);
        }
        some
    }

    /// Inflates as much as fits into `room`.
    fn inflate(&mut self, room: usize) {
        let advanced = self
            .inflating
            .advance(&self.raw, &mut self.plain, room, random_bytes);
        let taken = *advanced.as_ref().unwrap_or(&0);
        self.surplus += taken.saturating_sub(self.plain.len());
        match advanced {
            Ok(taken) if taken == self.raw.len() => self.raw = Vec::new(),
            Ok(taken) => drop(self.raw.drain(..taken)),
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
        let mut futile = 0;
        loop {
            if this.hand_over(buf) {
                return Poll::Ready(Ok(()));
            }
            if let Some(violation) = this.violation {
                return match std::mem::replace(&mut this.violation_reported, true) {
                    false => Poll::Ready(Err(io::Error::other(violation))),
                    true => Pin::new(&mut this.io).poll_read(cx, buf),
                };
            }
            let before = this.raw.len();
            this.inflate(buf.remaining());
            if !this.plain.is_empty() || this.raw.len() != before || this.violation.is_some() {
                continue;
            }
            if futile >= CHUNK_LEN {
                // The reader accounts for the surplus before more is read, and other tasks are polled in between.
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
                n => futile += n,
            }
        }
    }
}

impl<C: AsyncWrite + Unpin> DeflateStream<C> {
    fn poll_drain(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        while self.written < self.packed.len() {
            let rest = self.packed.get(self.written..).unwrap_or_default();
            match ready!(Pin::new(&mut self.io).poll_write(cx, rest))? {
                0 => return Poll::Ready(Err(io::ErrorKind::WriteZero.into())),
                n => self.written += n,
            }
        }
        (self.packed, self.written) = (Vec::new(), 0);
        Poll::Ready(Ok(()))
    }
}

impl<C: AsyncWrite + Unpin> AsyncWrite for DeflateStream<C> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        ready!(self.poll_drain(cx))?;
        let this = &mut *self;
        let here = buf.get(..CHUNK_LEN).unwrap_or(buf);
        this.deflating.advance(here, &mut this.packed);
        // Bytes that the kernel does not accept now are written by the next call or a flush.
        match this.poll_drain(cx) {
            Poll::Ready(Err(error)) => Poll::Ready(Err(error)),
            _ => Poll::Ready(Ok(here.len())),
        }
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        ready!(self.poll_drain(cx))?;
        Pin::new(&mut self.io).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        ready!(self.poll_drain(cx))?;
        Pin::new(&mut self.io).poll_shutdown(cx)
    }
}

impl<C: Transport> Transport for DeflateStream<C> {
    fn taken(&self) -> u64 {
        self.io.taken()
    }

    fn reset(&self) {
        self.io.reset();
    }

    fn ending(&self) {
        self.io.ending();
    }

    fn violation(&self) -> Option<Violation> {
        self.violation
    }

    fn set_frame_bounds(&mut self, bounds: &Bounds) -> bool {
        self.inflating.bound(bounds);
        true
    }

    fn take_discarded(&mut self) -> usize {
        std::mem::take(&mut self.surplus)
    }
}

thread_local! {
    static SCRATCH: RefCell<Box<[u8]>> = RefCell::new(vec![0; CHUNK_LEN].into_boxed_slice());
}

/// Bytes that are read or compressed at once. This bounds the buffers, because compression may enlarge a message
/// slightly.
const CHUNK_LEN: usize = 16 * 1024;
