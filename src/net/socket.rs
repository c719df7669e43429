//! Byte streams, and the properties of the socket below them that their users need: [`Transport`].
//!
//! A [`Socket`] counts what the kernel accepts. A [`BackendStream`] is the stream to a backend of any kind.

use crate::net::{descriptors::DescriptorPermit, tls_stream::ServerStream};
use socket2::SockRef;
use std::{
    io,
    mem::MaybeUninit,
    pin::{Pin, pin},
    task::{Context, Poll, ready},
};
use tokio::{
    io::{AsyncRead, AsyncWrite, Empty, Interest, ReadBuf},
    net::{TcpStream, UnixStream},
};
use tokio_rustls::client::{self, TlsStream};

/// A byte stream over a socket, directly or through TLS or HTTP/2.
pub trait Transport: AsyncRead + AsyncWrite + Unpin {
    /// Returns the number of bytes that the kernel has accepted, which is the only evidence that a peer that sends
    /// nothing still reads.
    fn bytes_accepted(&self) -> u64;

    /// Makes the drop send a reset (RST). If the peer's receive window is full, a FIN would wait without limit.
    fn reset(&self);

    /// Returns `Pending` if a read would return nothing and this is known at lower cost than a read. The waker is
    /// registered as by a read.
    fn poll_readable(&self, _: &mut Context<'_>) -> Poll<()> {
        Poll::Ready(())
    }

    /// Returns `Ready` if the peer is known to send nothing further, although earlier input is unread: it has closed or
    /// reset its connection, or keepalive probes of TCP had no answer. It may stay `Pending` without waking the task. A
    /// FIN is visible only when the receive window had space for all bytes before it.
    fn poll_hang_up(&mut self, _: &mut Context<'_>) -> Poll<()> {
        Poll::Pending
    }

    /// Announces the last writes: they may be held back (TCP_CORK) until the FIN that follows and share its packet.
    fn cork(&self) {}

    /// Reads and discards bytes of the socket, below TLS. Returns 0 at the end of the stream. Only after a shutdown:
    /// what follows is lost.
    fn poll_discard(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<usize>> {
        discard(self, cx)
    }

    /// Writes the last bytes; a protocol with its own end mark (close_notify of TLS) may send it together with them.
    fn poll_write_and_close(
        &mut self,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(self).poll_write(cx, bytes)
    }
}

/// A socket that counts the bytes that the kernel accepts.
#[derive(Debug)]
pub struct Socket<S = TcpStream> {
    stream: S,
    bytes_accepted: u64,
    /// Released after the stream is closed. The permit of a client's connection is with its other permits.
    _permit: Option<DescriptorPermit>,
}

/// A stream to a backend: an enum, so that the relay is compiled once for all kinds.
#[derive(Debug)]
pub enum BackendStream {
    /// Without TLS.
    Tcp(Socket),
    /// Over a Unix socket, without TLS.
    Unix(Socket<UnixStream>),
    /// TLS over TCP.
    Tls(Box<TlsStream<Socket>>),
}

// For plain TCP the enum adds only its tag to the size of a session.
const _: () = assert!(size_of::<BackendStream>() <= size_of::<Socket>() + size_of::<usize>());

// === impl Socket ===

impl<S> Socket<S> {
    /// Creates a socket whose count of written bytes is zero.
    pub fn new(stream: S) -> Self {
        Socket {
            stream,
            bytes_accepted: 0,
            _permit: None,
        }
    }

    /// Creates a socket that holds the permit of its descriptor, unless another part of its connection does.
    pub(crate) fn with(stream: S, permit: Option<DescriptorPermit>) -> Self {
        Socket {
            _permit: permit,
            ..Socket::new(stream)
        }
    }

    fn count(&mut self, written: Poll<io::Result<usize>>) -> Poll<io::Result<usize>> {
        if let Poll::Ready(Ok(n)) = written {
            self.bytes_accepted += n as u64;
        }
        written
    }
}

impl Socket {
    /// Returns the TCP stream; its addresses and options are read through it.
    pub(crate) fn tcp(&self) -> &TcpStream {
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
    fn bytes_accepted(&self) -> u64 {
        self.bytes_accepted
    }

    fn reset(&self) {
        // This fails only on a socket that is already closed.
        let _ = self.stream.set_zero_linger();
    }

    fn cork(&self) {
        // Without TCP_CORK two packets are sent. The kernel waits for at most 200 ms.
        let _ = SockRef::from(&self.stream).set_tcp_cork(true);
    }

    fn poll_readable(&self, cx: &mut Context<'_>) -> Poll<()> {
        // The read that follows returns an error of the socket.
        self.stream.poll_read_ready(cx).map(drop)
    }

    fn poll_hang_up(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        // Of all interests only this one includes READ_CLOSED (EPOLLRDHUP, EPOLLHUP) without READABLE. It costs no
        // system call.
        pin!(self.stream.ready(Interest::PRIORITY))
            .poll(cx)
            .map(drop)
    }
}

impl Transport for Socket<UnixStream> {
    fn bytes_accepted(&self) -> u64 {
        self.bytes_accepted
    }

    /// Does nothing: written bytes are already in the peer's buffer, so a close does not wait.
    fn reset(&self) {}
}

/// A peer that disconnected before the session began.
impl Transport for Empty {
    fn bytes_accepted(&self) -> u64 {
        0
    }

    fn reset(&self) {}
}

impl<S: Transport> Transport for Box<ServerStream<S>> {
    fn bytes_accepted(&self) -> u64 {
        self.io().bytes_accepted()
    }

    fn reset(&self) {
        self.io().reset();
    }

    fn poll_readable(&self, cx: &mut Context<'_>) -> Poll<()> {
        poll_readable(self.io(), self.wants_io_read(), cx)
    }

    fn poll_hang_up(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        self.io_mut().poll_hang_up(cx)
    }

    fn cork(&self) {
        if !self.is_close_notify_queued() {
            self.io().cork();
        }
    }

    fn poll_discard(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<usize>> {
        self.io_mut().poll_discard(cx)
    }

    fn poll_write_and_close(
        &mut self,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        self.cork();
        self.as_mut().poll_write_and_close(cx, bytes)
    }
}

impl<S: Transport> Transport for Box<client::TlsStream<S>> {
    fn bytes_accepted(&self) -> u64 {
        self.get_ref().0.bytes_accepted()
    }

    fn reset(&self) {
        self.get_ref().0.reset();
    }

    fn cork(&self) {
        self.get_ref().0.cork();
    }

    fn poll_readable(&self, cx: &mut Context<'_>) -> Poll<()> {
        let (io, tls) = self.get_ref();
        poll_readable(io, tls.wants_read(), cx)
    }
}

/// Reads once into a buffer on the stack, and returns the number of bytes.
fn discard(
    io: &mut (impl AsyncRead + Unpin + ?Sized),
    cx: &mut Context<'_>,
) -> Poll<io::Result<usize>> {
    let mut scratch = [MaybeUninit::uninit(); DISCARD_LEN];
    let mut buf = ReadBuf::uninit(&mut scratch);
    ready!(Pin::new(io).poll_read(cx, &mut buf))?;
    Poll::Ready(Ok(buf.filled().len()))
}

/// Polls the socket below TLS: a read through rustls that returns nothing costs ten times as much.
fn poll_readable(io: &impl Transport, wants_read: bool, cx: &mut Context<'_>) -> Poll<()> {
    if wants_read {
        io.poll_readable(cx)
    } else {
        // Plaintext is buffered already, or nothing more will ever be read.
        Poll::Ready(())
    }
}

/// Forwards a call to the variant.
macro_rules! either {
    ($stream:expr, $inner:ident => $call:expr) => {
        match $stream {
            BackendStream::Tcp($inner) => $call,
            BackendStream::Unix($inner) => $call,
            BackendStream::Tls($inner) => $call,
        }
    };
}

// === impl BackendStream ===

impl Transport for BackendStream {
    fn bytes_accepted(&self) -> u64 {
        either!(self, inner => inner.bytes_accepted())
    }

    fn reset(&self) {
        either!(self, inner => inner.reset());
    }

    fn cork(&self) {
        // Without TLS the last frame is one write; a cork would only add a system call.
        if let BackendStream::Tls(tls) = self {
            tls.cork();
        }
    }

    fn poll_readable(&self, cx: &mut Context<'_>) -> Poll<()> {
        match self {
            BackendStream::Tls(tls) => tls.poll_readable(cx),
            // Without TLS a read costs no more than this check.
            BackendStream::Tcp(_) | BackendStream::Unix(_) => Poll::Ready(()),
        }
    }
}

impl AsyncRead for BackendStream {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        either!(self.get_mut(), inner => Pin::new(inner).poll_read(cx, buf))
    }
}

impl AsyncWrite for BackendStream {
    fn poll_write(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        either!(self.get_mut(), inner => Pin::new(inner).poll_write(cx, buf))
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        either!(self.get_mut(), inner => Pin::new(inner).poll_write_vectored(cx, bufs))
    }

    fn is_write_vectored(&self) -> bool {
        either!(self, inner => inner.is_write_vectored())
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        either!(self.get_mut(), inner => Pin::new(inner).poll_flush(cx))
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        either!(self.get_mut(), inner => Pin::new(inner).poll_shutdown(cx))
    }
}

/// The bytes that one read discards.
const DISCARD_LEN: usize = 16 * 1024;

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
    async fn poll_readable_registers_the_waker_like_a_read() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let (near, (mut far, _)) =
            try_join!(TcpStream::connect(address), listener.accept()).unwrap();
        let near = Socket::new(near);
        let polled = poll_fn(|cx| Poll::Ready(near.poll_readable(cx))).await;
        assert!(polled.is_pending());
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
    async fn hang_up_is_visible_behind_unread_bytes() {
        for reset in [false, true] {
            let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
            let address = listener.local_addr().unwrap();
            let (near, (mut far, _)) =
                try_join!(TcpStream::connect(address), listener.accept()).unwrap();
            let mut near = Socket::new(near);
            far.write_all(b"unread").await.unwrap();
            near.tcp().readable().await.unwrap();
            let polled = poll_fn(|cx| Poll::Ready(near.poll_hang_up(cx))).await;
            assert!(polled.is_pending(), "the peer is connected");
            if reset {
                far.set_zero_linger().unwrap();
            }
            drop(far);
            let hung_up = async {
                while poll_fn(|cx| Poll::Ready(near.poll_hang_up(cx)))
                    .await
                    .is_pending()
                {
                    tokio::time::sleep(Duration::from_millis(5)).await;
                }
            };
            assert!(timeout(Duration::from_secs(10), hung_up).await.is_ok());
        }
    }

    #[tokio::test]
    async fn last_write_is_sent_in_one_packet_with_the_fin() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let (near, (mut far, _)) =
            try_join!(TcpStream::connect(address), listener.accept()).unwrap();
        let mut near = Socket::new(near);
        near.cork();
        assert!(SockRef::from(near.tcp()).tcp_cork().unwrap());
        near.write_all(b"last").await.unwrap();
        near.shutdown().await.unwrap();
        let mut got = Vec::new();
        far.read_to_end(&mut got).await.unwrap();
        assert_eq!(got, b"last");
    }
}
