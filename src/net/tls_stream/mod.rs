//! A server-side TLS stream that holds no buffers while it is idle.
//!
//! rustls implements the protocol: records, keys, alerts, tickets. This module moves the bytes. Ciphertext is received
//! into a scratch buffer that all connections of a thread share and is decrypted there; output is encrypted into
//! another such buffer. A connection keeps only a partly received record and the bytes that its socket did not accept.
//!
//! This file has the handshake ([`accept`]) and the stream ([`ServerStream`]). `engine` drives rustls without a socket,
//! and `buffers` has the pending bytes and the scratch buffers.

mod buffers;
mod engine;

use crate::net::tls_stream::engine::{ReadState, TlsEngine, protocol_error};
use rustls::{CommonState, ProtocolVersion, ServerConfig, server::UnbufferedServerConnection};
use std::{
    fmt,
    future::poll_fn,
    io,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, ready},
};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

/// TLS over `S` as a server; `accept` creates it.
pub struct ServerStream<S> {
    io: S,
    engine: TlsEngine,
    /// Whether written bytes, or records that must be flushed now, are still kept here.
    unsent: bool,
}

/// Performs the TLS handshake with a client whose first bytes are `hello`: all that was read from `io` so far. It waits
/// for the client without a time limit.
///
/// # Errors
/// Returns a [`rustls::Error`] inside an error of kind `InvalidData` once the alert was sent or sending it failed;
/// `UnexpectedEof`; or the error of `io`.
pub(crate) async fn accept<S>(
    io: S,
    mut hello: Vec<u8>,
    config: Arc<ServerConfig>,
) -> io::Result<Box<ServerStream<S>>>
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    let connection = UnbufferedServerConnection::new(config).map_err(io::Error::other)?;
    // Boxed: every future that holds it would otherwise be as large.
    let mut stream = Box::new(ServerStream {
        io,
        engine: TlsEngine::new(connection),
        unsent: false,
    });
    stream
        .engine
        .process_records(&mut hello, &mut ReadBuf::new(&mut []));
    drop(hello);
    loop {
        if stream.has_early_application_data() {
            return Ok(stream);
        }
        let sent = poll_fn(|cx| {
            ready!(stream.poll_write_outgoing(cx))?;
            Pin::new(&mut stream.io).poll_flush(cx)
        });
        let sent = sent.await;
        match &stream.engine.read_state {
            // The cause is returned, not a failure to send the alert.
            ReadState::Failed(error) => return Err(protocol_error(error)),
            ReadState::Truncated => return Err(unexpected_eof()),
            ReadState::Open | ReadState::Closed => sent?,
        }
        if !stream.tls_state().is_handshaking() {
            return Ok(stream);
        }
        poll_fn(|cx| stream.poll_receive(cx, &mut ReadBuf::new(&mut []))).await?;
    }
}

// === impl ServerStream ===

impl<S> ServerStream<S> {
    /// Returns the stream below TLS.
    pub fn io(&self) -> &S {
        &self.io
    }

    /// Returns the stream below TLS. Until the shutdown only its state may be queried: reads and writes would break the
    /// record layer.
    pub fn io_mut(&mut self) -> &mut S {
        &mut self.io
    }

    /// Returns the negotiated parameters and the peer's identity.
    pub fn tls_state(&self) -> &CommonState {
        self.engine.tls_state()
    }

    /// Returns the number of bytes of memory held in addition to that of rustls: none while the stream is idle.
    pub fn buffered(&self) -> usize {
        self.engine.buffered()
    }

    /// Returns whether close_notify was sent or is queued.
    pub fn is_close_notify_queued(&self) -> bool {
        self.engine.closed
    }

    /// Returns whether a read will read from the stream below TLS, because nothing is buffered.
    pub fn wants_io_read(&self) -> bool {
        self.engine.plain.is_empty() && matches!(self.engine.read_state, ReadState::Open)
    }

    /// Returns whether the client has sent application data already: tickets (RFC 8446 §4.6.1) are then sent with the
    /// response. Otherwise they are sent immediately and acknowledge its Finished: under Nagle's algorithm a client
    /// holds back its request until then, and a kernel that has nothing to send delays the acknowledgement by 40 ms.
    fn has_early_application_data(&self) -> bool {
        let tls_state = self.tls_state();
        matches!(self.engine.read_state, ReadState::Open)
            && !self.engine.plain.is_empty()
            && !tls_state.is_handshaking()
            && tls_state.protocol_version() == Some(ProtocolVersion::TLSv1_3)
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin> ServerStream<S> {
    /// Receives once and writes the plaintext that fits to `out`.
    fn poll_receive(
        &mut self,
        cx: &mut Context<'_>,
        out: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        buffers::with_read_scratch(|scratch| {
            let kept = self.engine.incoming.len();
            // As much as the reader requests, but at least one whole record: less might never complete one.
            let end = kept + out.remaining().max(MAX_RECORD_LEN) + RECORD_OVERHEAD;
            let end = end.min(scratch.len());
            let mut new = ReadBuf::new(&mut scratch[kept..end]);
            ready!(Pin::new(&mut self.io).poll_read(cx, &mut new))?;
            let received = new.filled().len();
            if received == 0 {
                self.engine.on_eof();
                return Poll::Ready(Ok(()));
            }
            scratch[..kept].copy_from_slice(&self.engine.incoming);
            self.engine
                .process_records(&mut scratch[..kept + received], out);
            if self.must_flush_now() {
                // Sent if the socket accepts it now. An error of the socket is returned by the next write or read.
                self.unsent = true;
                let _ = self.poll_write_outgoing(cx);
            }
            Poll::Ready(Ok(()))
        })
    }

    /// Returns whether TLS has output that cannot wait for the next write: an alert, including the one that refuses
    /// renegotiation (RFC 5246 §7.2.2), which the client awaits. Tickets of TLS 1.3 can wait.
    fn must_flush_now(&self) -> bool {
        let is_12 = self.tls_state().protocol_version() == Some(ProtocolVersion::TLSv1_2);
        let is_urgent = is_12 || matches!(self.engine.read_state, ReadState::Failed(_));
        is_urgent && !self.engine.outgoing.is_empty()
    }

    /// Encrypts and sends; records that the socket does not accept are kept. `last`: close_notify is sent with them.
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
            ready!(self.poll_write_outgoing(cx))?;
        }
        let plain = &buf[..buf.len().min(MAX_PLAINTEXT)];
        if plain.is_empty() {
            return Poll::Ready(Ok(0));
        }
        buffers::with_write_scratch(|scratch| {
            let size = self.engine.encrypt(plain, scratch)?;
            let mut encrypted = &scratch[..size];
            let last = last && plain.len() == buf.len();
            if last || !self.engine.outgoing.is_empty() {
                // One write together with the pending output of TLS.
                self.engine.outgoing.append(encrypted);
                self.unsent = true;
                if last {
                    self.engine.close();
                }
                if let Poll::Ready(Err(error)) = self.poll_write_outgoing(cx) {
                    return Poll::Ready(Err(error));
                }
                return Poll::Ready(Ok(plain.len()));
            }
            while !encrypted.is_empty() {
                match Pin::new(&mut self.io).poll_write(cx, encrypted) {
                    Poll::Ready(Ok(0)) => return Poll::Ready(Err(io::ErrorKind::WriteZero.into())),
                    Poll::Ready(Ok(n)) => encrypted = &encrypted[n..],
                    Poll::Ready(Err(error)) => return Poll::Ready(Err(error)),
                    Poll::Pending => break,
                }
            }
            self.engine.outgoing.append(encrypted);
            self.unsent = !encrypted.is_empty();
            Poll::Ready(Ok(plain.len()))
        })
    }

    /// Writes the last bytes, followed by close_notify if all of them are accepted at once.
    pub fn poll_write_and_close(
        &mut self,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        self.poll_send(cx, buf, true)
    }

    /// Sends the kept records.
    fn poll_write_outgoing(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
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
            match this.engine.read_state {
                ReadState::Open => ready!(this.poll_receive(cx, buf))?,
                ReadState::Closed => break,
                ReadState::Truncated => return Poll::Ready(Err(unexpected_eof())),
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
            // A full record gains nothing from coalescing.
            [large, ..] if large.len() >= MAX_RECORD_LEN => self.poll_write(cx, large),
            several => {
                let total: usize = several.iter().map(|buf| buf.len()).sum();
                let mut joined = Vec::with_capacity(total.min(MAX_PLAINTEXT));
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
        // Output of TLS that is not urgent is sent with the next write.
        if this.unsent {
            ready!(this.poll_write_outgoing(cx))?;
        }
        Pin::new(&mut this.io).poll_flush(cx)
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        if !this.engine.closed {
            this.engine.close();
        }
        ready!(this.poll_write_outgoing(cx))?;
        match ready!(Pin::new(&mut this.io).poll_shutdown(cx)) {
            // The client has disconnected already.
            Err(error) if error.kind() == io::ErrorKind::NotConnected => Poll::Ready(Ok(())),
            done => Poll::Ready(done),
        }
    }
}

impl<S: fmt::Debug> fmt::Debug for ServerStream<S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ServerStream")
            .field("io", &self.io)
            .field("read_state", &self.engine.read_state)
            .finish_non_exhaustive()
    }
}

/// Returns the error for an EOF without close_notify: an attacker may have truncated the stream (RFC 8446 §6.1).
fn unexpected_eof() -> io::Error {
    io::Error::new(
        io::ErrorKind::UnexpectedEof,
        "the peer closed the connection without close_notify",
    )
}

/// Plaintext length of a full record (RFC 8446 §5.1).
const MAX_RECORD_LEN: usize = 16 * 1024;

/// Overhead of the records of one write: at most 29 bytes each, for about five records.
const RECORD_OVERHEAD: usize = 512;

/// Up to this many bytes of TLS output, such as tickets, wait for the next write and are sent with it.
const COALESCE_LIMIT: usize = 2 * 1024;

/// Maximum plaintext that is encrypted at once.
const MAX_PLAINTEXT: usize = buffers::SCRATCH_LEN - 2 * RECORD_OVERHEAD;

#[cfg(test)]
mod tests;
