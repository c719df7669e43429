//! A client's TLS stream that holds nothing while it is idle.
//!
//! rustls decides all that TLS is: records, keys, alerts, tickets. This module moves the bytes. Ciphertext is received
//! into room that all connections of a thread share and is decrypted there, what is to be sent is encrypted into such
//! room; a connection keeps only the part of a record that has come, and what its socket did not take.

mod engine;
mod handshake;
mod rest;
mod room;
mod step;

pub use handshake::accept;

use engine::{ReadState, TlsEngine};
use rustls::{CommonState, ProtocolVersion};
use std::{
    fmt, io,
    pin::Pin,
    task::{Context, Poll, ready},
};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

/// TLS over `S`, as a server; made by [`accept`].
pub struct ServerStream<S> {
    io: S,
    engine: TlsEngine,
    /// Of what was written, or of what somebody waits for, some is kept here.
    unsent: bool,
}

// === impl ServerStream ===

impl<S> ServerStream<S> {
    /// What TLS runs over.
    pub fn io(&self) -> &S {
        &self.io
    }

    /// What was agreed, and with whom.
    pub fn agreed(&self) -> &CommonState {
        self.engine.tls_state()
    }

    /// How much memory it holds besides what rustls does: none while it is idle.
    pub fn held(&self) -> usize {
        self.engine.buffered()
    }

    /// Whether close_notify is on its way.
    pub fn is_shut(&self) -> bool {
        self.engine.closed
    }

    /// Whether a read will look at what TLS runs over, as it has nothing else to tell.
    pub fn wants_io_read(&self) -> bool {
        self.engine.plain.is_empty() && matches!(self.engine.heard, ReadState::Open)
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin> ServerStream<S> {
    /// Receives once; what fits goes to `out`.
    fn poll_receive(
        &mut self,
        cx: &mut Context<'_>,
        out: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        room::with_read_scratch(|room| {
            let held = self.engine.incoming.len();
            // No more plaintext than is asked for, but a whole record: there would be no end to taking it apart.
            let most = held + out.remaining().max(MAX_RECORD_LEN) + RECORD_OVERHEAD;
            let most = most.min(room.len());
            let mut new = ReadBuf::new(&mut room[held..most]);
            ready!(Pin::new(&mut self.io).poll_read(cx, &mut new))?;
            let end = held + new.filled().len();
            if end == held {
                self.engine.on_eof();
                return Poll::Ready(Ok(()));
            }
            room[..held].copy_from_slice(&self.engine.incoming);
            self.engine.process_records(&mut room[..end], out);
            if self.must_flush_now() {
                // If the socket takes it now. What is wrong with it the next write will tell, or the next read.
                self.unsent = true;
                let _ = self.poll_drain(cx);
            }
            Poll::Ready(Ok(()))
        })
    }

    /// Whether TLS itself has something to say that cannot wait for the next write: an alert, also the one that refuses
    /// renegotiation (RFC 5246 §7.2.2), before which that client says nothing more. Tickets of 1.3 can.
    fn must_flush_now(&self) -> bool {
        let is_12 = self.agreed().protocol_version() == Some(ProtocolVersion::TLSv1_2);
        let said = is_12 || matches!(self.engine.heard, ReadState::Failed(_));
        said && !self.engine.outgoing.is_empty()
    }

    /// Encrypts and sends; what the socket does not take of that is kept. `last`: close_notify goes with it.
    fn poll_send(
        &mut self,
        cx: &mut Context<'_>,
        buf: &[u8],
        last: bool,
    ) -> Poll<io::Result<usize>> {
        if self.engine.closed {
            return Poll::Ready(Err(io::ErrorKind::BrokenPipe.into()));
        }
        if self.engine.outgoing.bytes().len() > COALESCE_LIMIT {
            ready!(self.poll_drain(cx))?;
        }
        let taken = &buf[..buf.len().min(MAX_PLAINTEXT)];
        if taken.is_empty() {
            return Poll::Ready(Ok(0));
        }
        room::with_write_scratch(|room| {
            let size = self.engine.encrypt(taken, room)?;
            let mut sealed = &room[..size];
            let last = last && taken.len() == buf.len();
            if last || !self.engine.outgoing.is_empty() {
                // With what TLS itself has to say: one write.
                self.engine.outgoing.append(sealed);
                self.unsent = true;
                if last {
                    self.engine.close();
                }
                if let Poll::Ready(Err(error)) = self.poll_drain(cx) {
                    return Poll::Ready(Err(error));
                }
                return Poll::Ready(Ok(taken.len()));
            }
            while !sealed.is_empty() {
                match Pin::new(&mut self.io).poll_write(cx, sealed) {
                    Poll::Ready(Ok(0)) => return Poll::Ready(Err(io::ErrorKind::WriteZero.into())),
                    Poll::Ready(Ok(n)) => sealed = &sealed[n..],
                    Poll::Ready(Err(error)) => return Poll::Ready(Err(error)),
                    Poll::Pending => break,
                }
            }
            self.engine.outgoing.append(sealed);
            self.unsent = !sealed.is_empty();
            Poll::Ready(Ok(taken.len()))
        })
    }

    /// Writes what is the last, and close_notify behind it where all is taken at once.
    pub fn poll_write_and_close(
        &mut self,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        self.poll_send(cx, buf, true)
    }

    /// Sends what was kept.
    fn poll_drain(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let outgoing = &mut self.engine.outgoing;
        while !outgoing.is_empty() {
            match ready!(Pin::new(&mut self.io).poll_write(cx, outgoing.bytes()))? {
                0 => return Poll::Ready(Err(io::ErrorKind::WriteZero.into())),
                n => outgoing.advance(n),
            }
        }
        self.unsent = false;
        Poll::Ready(Ok(()))
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin> AsyncRead for ServerStream<S> {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        let before = buf.filled().len();
        while buf.remaining() > 0 && buf.filled().len() == before {
            if !this.engine.plain.is_empty() {
                this.engine.plain.fill(buf);
                break;
            }
            match this.engine.heard {
                ReadState::Open => ready!(this.poll_receive(cx, buf))?,
                ReadState::Closed => break,
                ReadState::Truncated => return Poll::Ready(Err(cut())),
                ReadState::Failed(ref error) => return Poll::Ready(Err(protocol_error(error))),
            }
        }
        Poll::Ready(Ok(()))
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin> AsyncWrite for ServerStream<S> {
    fn poll_write(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        self.get_mut().poll_send(cx, buf, false)
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let first = bufs.iter().position(|buf| !buf.is_empty());
        let bufs = &bufs[first.unwrap_or(bufs.len())..];
        match bufs {
            [] => self.poll_write(cx, &[]),
            [one] => self.poll_write(cx, one),
            // A full record gains nothing from company.
            [large, ..] if large.len() >= MAX_RECORD_LEN => self.poll_write(cx, large),
            several => {
                let whole: usize = several.iter().map(|buf| buf.len()).sum();
                let mut joined = Vec::with_capacity(whole.min(MAX_PLAINTEXT));
                for buf in several {
                    let fits = buf.len().min(MAX_PLAINTEXT - joined.len());
                    joined.extend_from_slice(&buf[..fits]);
                }
                self.poll_write(cx, &joined)
            }
        }
    }

    fn is_write_vectored(&self) -> bool {
        true
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        // What TLS itself has to say, and nobody waits for, goes with the next write.
        if this.unsent {
            ready!(this.poll_drain(cx))?;
        }
        Pin::new(&mut this.io).poll_flush(cx)
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        if !this.engine.closed {
            this.engine.close();
        }
        ready!(this.poll_drain(cx))?;
        match ready!(Pin::new(&mut this.io).poll_shutdown(cx)) {
            // The client has left already.
            Err(error) if error.kind() == io::ErrorKind::NotConnected => Poll::Ready(Ok(())),
            done => Poll::Ready(done),
        }
    }
}

impl<S: fmt::Debug> fmt::Debug for ServerStream<S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ServerStream")
            .field("io", &self.io)
            .field("heard", &self.engine.heard)
            .finish_non_exhaustive()
    }
}

/// A client that drops without close_notify may have been cut by somebody else (RFC 8446 §6.1).
fn cut() -> io::Error {
    io::Error::new(
        io::ErrorKind::UnexpectedEof,
        "the peer closed the connection without close_notify",
    )
}

fn protocol_error(error: &rustls::Error) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, error.clone())
}

/// The plaintext of a full record (RFC 8446 §5.1).
const MAX_RECORD_LEN: usize = 16 * 1024;

/// What records take beyond their plaintext: at most 29 bytes each, of five or so.
const RECORD_OVERHEAD: usize = 512;

/// As much of what TLS itself has to say, such as tickets, waits for the next write and goes with it.
const COALESCE_LIMIT: usize = 2 * 1024;

/// The most that is encrypted at a time.
const MAX_PLAINTEXT: usize = room::SCRATCH_LEN - 2 * RECORD_OVERHEAD;

#[cfg(test)]
mod tests;
