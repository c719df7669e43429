//! One side of a session: its stream, and what the relay must know of the socket below it.

use super::pulse::Keepalive;
use crate::{
    proto::track::{Bounds, ControlPayload, Violation},
    wire::ServerStream,
};
use socket2::SockRef;
use std::{
    io,
    pin::Pin,
    task::{Context, Poll},
};
use tokio::{
    io::{AsyncRead, AsyncWrite, Empty, ReadBuf},
    net::{TcpStream, UnixStream},
    time::Instant,
};
use tokio_rustls::client;

/// A stream that can be spliced.
pub trait Transport: AsyncRead + AsyncWrite + Unpin {
    /// How many bytes the kernel has taken so far: the only proof that a peer, who has nothing to say, still reads.
    fn taken(&self) -> u64;

    /// Makes the coming drop a reset (RST): for a peer whose pipe is full, where a FIN would wait without end.
    fn reset(&self);

    /// Pending where a read would find nothing, if that is known for less than a read costs; who asks is woken as by a
    /// read.
    fn poll_readable(&self, _: &mut Context<'_>) -> Poll<()> {
        Poll::Ready(())
    }

    /// What is written from here on is the last: it may wait for the FIN that follows at once, and share its packet.
    fn ending(&self) {}

    /// Writes what is the last; who has to say so himself may say it in the same breath.
    fn poll_write_last(&mut self, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(self).poll_write(cx, bytes)
    }

    /// Why reading failed, where the peer said what may not be said and that was seen before the relay saw it.
    fn violation(&self) -> Option<Violation> {
        None
    }

    /// Has these bounds on frames hold where the peer's own are seen; true if they are seen here, and what is read has others.
    fn set_frame_bounds(&mut self, _: &Bounds) -> bool {
        false
    }

    /// How many bytes the peer has sent beyond those that were read here, since this was last asked.
    fn take_discarded(&mut self) -> usize {
        0
    }
}

/// A stream that counts what the kernel takes.
#[derive(Debug)]
pub struct Socket<S = TcpStream> {
    stream: S,
    taken: u64,
}

/// One side of a session.
pub(super) struct Leg<S> {
    pub(super) io: S,
    pub(super) pulse: Keepalive,
    /// A write failed or the peer is given up: what is still meant for it is dropped.
    pub(super) broken: bool,
    /// It has said its Close: another Close is the last that it gets.
    pub(super) close_received: bool,
    /// Its latest Ping that we answer ourselves (RFC 6455 §5.5.3: the latest is enough). Boxed: it is rare.
    pub(super) pending_pong: Option<Box<ControlPayload>>,
}

// === impl Leg ===

impl<S: Transport> Leg<S> {
    pub(super) fn new(io: S, now: Instant) -> Self {
        let pulse = Keepalive::new(now, io.taken());
        Leg {
            io,
            pulse,
            broken: false,
            close_received: false,
            pending_pong: None,
        }
    }
}

// === impl Socket ===

impl<S> Socket<S> {
    /// Nothing has been written yet.
    pub fn new(stream: S) -> Self {
        Socket { stream, taken: 0 }
    }

    fn count(&mut self, written: Poll<io::Result<usize>>) -> Poll<io::Result<usize>> {
        if let Poll::Ready(Ok(n)) = written {
            self.taken += n as u64;
        }
        written
    }
}

impl Socket {
    /// The socket itself, for its addresses and options.
    pub fn tcp(&self) -> &TcpStream {
        &self.stream
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Socket<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_read(cx, buf)
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Socket<S> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut self.stream).poll_write(cx, buf);
        self.count(written)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut self.stream).poll_write_vectored(cx, bufs);
        self.count(written)
    }

    fn is_write_vectored(&self) -> bool {
        true
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}

impl Transport for Socket {
    fn taken(&self) -> u64 {
        self.taken
    }

    fn reset(&self) {
        // It fails only on a socket that is gone already.
        let _ = self.stream.set_zero_linger();
    }

    fn ending(&self) {
        // Without it there are two packets. The kernel waits for no more than 200 ms.
        let _ = SockRef::from(&self.stream).set_tcp_cork(true);
    }

    fn poll_readable(&self, cx: &mut Context<'_>) -> Poll<()> {
        // What is wrong with it the read will tell.
        self.stream.poll_read_ready(cx).map(drop)
    }
}

impl Transport for Socket<UnixStream> {
    fn taken(&self) -> u64 {
        self.taken
    }

    /// What was written is in the peer's hands already: the drop waits for nobody.
    fn reset(&self) {}
}

/// A peer that left before there was a session.
impl Transport for Empty {
    fn taken(&self) -> u64 {
        0
    }

    fn reset(&self) {}
}

impl<S: Transport> Transport for Box<ServerStream<S>> {
    fn taken(&self) -> u64 {
        self.io().taken()
    }

    fn reset(&self) {
        self.io().reset();
    }

    fn poll_readable(&self, cx: &mut Context<'_>) -> Poll<()> {
        poll_readable(self.io(), self.wants_io_read(), cx)
    }

    fn ending(&self) {
        if !self.is_shut() {
            self.io().ending();
        }
    }

    fn poll_write_last(&mut self, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        self.ending();
        self.as_mut().poll_write_and_close(cx, bytes)
    }
}

impl<S: Transport> Transport for Box<client::TlsStream<S>> {
    fn taken(&self) -> u64 {
        self.get_ref().0.taken()
    }

    fn reset(&self) {
        self.get_ref().0.reset();
    }

    fn ending(&self) {
        self.get_ref().0.ending();
    }

    fn poll_readable(&self, cx: &mut Context<'_>) -> Poll<()> {
        let (io, tls) = self.get_ref();
        poll_readable(io, tls.wants_read(), cx)
    }
}

/// Asked below TLS: to have rustls find out that nothing has come costs ten times as much.
fn poll_readable(io: &impl Transport, wants_read: bool, cx: &mut Context<'_>) -> Poll<()> {
    match wants_read {
        true => io.poll_readable(cx),
        // It has something already, or will never want more.
        false => Poll::Ready(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::{future::poll_fn, time::Duration};
    use tokio::{
        io::{AsyncReadExt, AsyncWriteExt},
        net::TcpListener,
        time::timeout,
        try_join,
    };

    #[tokio::test]
    async fn who_asks_whether_there_is_something_is_woken_as_by_a_read() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let (near, (mut far, _)) =
            try_join!(TcpStream::connect(address), listener.accept()).unwrap();
        let near = Socket::new(near);
        let asked = poll_fn(|cx| Poll::Ready(near.poll_readable(cx))).await;
        assert!(asked.is_pending());
        let (readable, written) = tokio::join!(
            timeout(
                Duration::from_secs(10),
                poll_fn(|cx| near.poll_readable(cx))
            ),
            far.write_all(b"x")
        );
        assert!(readable.is_ok() && written.is_ok());
    }

    #[tokio::test]
    async fn what_is_last_waits_for_the_fin_and_comes_with_it() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let (near, (mut far, _)) =
            try_join!(TcpStream::connect(address), listener.accept()).unwrap();
        let mut near = Socket::new(near);
        near.ending();
        assert!(SockRef::from(near.tcp()).tcp_cork().unwrap());
        near.write_all(b"last").await.unwrap();
        near.shutdown().await.unwrap();
        let mut got = Vec::new();
        far.read_to_end(&mut got).await.unwrap();
        assert_eq!(got, b"last");
    }
}
