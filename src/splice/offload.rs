//! A client's stream whose messages are compressed, to whom is behind it one with plain messages (RFC 7692).
//!
//! The relay does not know: it reads plain frames and writes plain ones, with the same bounds and the same rules. While
//! nothing is said, what is held is the client's window, if it keeps one.

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

/// A stream over which permessage-deflate is spoken.
#[derive(Debug)]
pub struct DeflateStream<C> {
    io: C,
    inflating: FrameInflater,
    deflating: FrameDeflater,
    /// What came and is not inflated yet.
    raw: Vec<u8>,
    /// What is to be read, from `read` on.
    plain: Vec<u8>,
    read: usize,
    /// What is to be written, from `written` on.
    packed: Vec<u8>,
    written: usize,
    violation: Option<Violation>,
    /// Whoever reads has heard of the fault: what comes now is for nobody.
    violation_reported: bool,
    /// What came and inflated to less than it was.
    surplus: usize,
}

// === impl DeflateStream ===

impl<C> DeflateStream<C> {
    /// `early` came right behind the handshake.
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

    /// Hands over what is plain already. False if nothing is.
    fn hand_over(&mut self, buf: &mut ReadBuf<'_>) -> bool {
        let rest = self.plain.get(self.read..).unwrap_or_default();
        let here = rest.get(..buf.remaining()).unwrap_or(rest);
        let some = !here.is_empty();
        buf.put_slice(here);
        self.read += here.len();
        if self.read == self.plain.len() {
            // Given back, not cleared: an idle session holds no buffer.
            (self.plain, self.read) = (Vec::new(), 0);
        }
        some
    }

    /// Inflates as much as there is room for.
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
                // Whoever reads hears of the surplus before there is more, and others have their turn.
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
        // What the kernel does not take now, the next call or a flush does.
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

/// What is read, or compressed, at a time: a bound on what is held, for a message may grow a little when it is compressed.
const CHUNK_LEN: usize = 16 * 1024;
