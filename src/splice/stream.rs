//! The stream to a backend: TCP, Unix socket or TLS.
//!
//! An enum, so that the relay is compiled once for all of them.

use super::{Socket, Transport};
use std::{
    io,
    pin::Pin,
    task::{Context, Poll},
};
use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    net::UnixStream,
};
use tokio_rustls::client::TlsStream;

/// A stream to a backend.
#[derive(Debug)]
pub enum BackendStream {
    /// Without TLS.
    Tcp(Socket),
    /// A Unix socket.
    Unix(Socket<UnixStream>),
    /// TLS over TCP.
    Tls(Box<TlsStream<Socket>>),
}

// For plain TCP the enum adds only its tag to the size of a session.
const _: () = assert!(size_of::<BackendStream>() <= size_of::<Socket>() + size_of::<usize>());

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
