//! The connections that serve several plain requests: each has a descriptor permit, which is reclaimed while it is idle
//! if other connections need one.

use crate::{
    http::body::Body,
    lifecycle::tasks::Tasks,
    net::{
        descriptors::{BusyGuard, DescriptorPermit, PooledDescriptor, PooledRef},
        early_response::EarlyResponseStream,
        socket::BackendStream,
    },
};
use ::http::{Request, Response};
use hyper::{
    body::Incoming,
    client::conn::{TrySendError, http1},
    rt::{Read, ReadBufCursor, Write},
};
use hyper_util::rt::TokioIo;
use std::{
    io,
    pin::Pin,
    task::{self, Poll},
};

/// An HTTP/1.1 connection that serves one request after another. It closes when it is dropped and its response has been
/// read.
#[derive(Debug)]
pub(crate) struct BackendConnection {
    sender: http1::SendRequest<Body>,
    descriptor: PooledRef,
}

/// The stream of such a connection. It reports its end when its permit is reclaimed.
struct PooledStream {
    io: TokioIo<EarlyResponseStream<BackendStream>>,
    descriptor: PooledDescriptor,
}

// === impl BackendConnection ===

impl BackendConnection {
    /// Starts HTTP on a stream, which holds `permit`.
    pub(crate) async fn open(
        stream: BackendStream,
        permit: DescriptorPermit,
        tasks: &Tasks,
    ) -> Result<Self, hyper::Error> {
        let stream = PooledStream {
            io: TokioIo::new(EarlyResponseStream::new(stream)),
            descriptor: PooledDescriptor::new(permit),
        };
        let descriptor = stream.descriptor.pooled_ref();
        let (sender, connection) = http1::Builder::new()
            .preserve_header_case(true)
            .title_case_headers(true)
            .max_headers(MAX_HEADERS)
            .max_buf_size(MAX_BUF_LEN)
            .handshake(stream)
            .await?;
        tasks.spawn(async {
            // Errors of the connection reach the future that awaits the response.
            let _ = connection.await;
        });
        Ok(BackendConnection { sender, descriptor })
    }

    /// Returns whether the last response has been read and the connection is open.
    pub(crate) fn is_ready(&self) -> bool {
        self.sender.is_ready()
    }

    /// Waits until the last response has been read; returns whether the connection is open.
    pub(crate) async fn ready(&mut self) -> bool {
        self.sender.ready().await.is_ok()
    }

    /// Sends a request. The error has the request if no part of it was sent.
    pub(crate) fn try_send(
        &mut self,
        request: Request<Body>,
    ) -> impl Future<Output = Result<Response<Incoming>, TrySendError<Request<Body>>>> + use<> {
        self.sender.try_send_request(request)
    }

    /// Returns the guard that is held until the response has been read.
    pub(crate) fn busy_guard(&self) -> BusyGuard {
        self.descriptor.clone().busy_guard()
    }
}

// === impl PooledStream ===

impl Read for PooledStream {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut task::Context<'_>,
        buf: ReadBufCursor<'_>,
    ) -> Poll<io::Result<()>> {
        if self.descriptor.is_reclaimed(cx) {
            return Poll::Ready(Ok(()));
        }
        Pin::new(&mut self.io).poll_read(cx, buf)
    }
}

impl Write for PooledStream {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut task::Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        self.descriptor.begin_request();
        Pin::new(&mut self.io).poll_write(cx, buf)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut task::Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        self.descriptor.begin_request();
        Pin::new(&mut self.io).poll_write_vectored(cx, bufs)
    }

    fn is_write_vectored(&self) -> bool {
        self.io.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut task::Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut task::Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_shutdown(cx)
    }
}

/// Maximum number of header fields of a backend's response; servers send far fewer.
pub(crate) const MAX_HEADERS: usize = 256;

/// The bytes of a response that are read ahead of its client: two TLS records. It is also the maximum length of a
/// response head, twice what h11 and HAProxy accept. For a client that does not read, three buffers have this size.
/// hyper's default is 408 KiB.
pub(crate) const MAX_BUF_LEN: usize = 32 * 1024;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        http::body,
        net::{
            descriptors::{DescriptorBudget, DescriptorUse},
            socket::Socket,
        },
    };
    use http_body_util::BodyExt;
    use std::{net::SocketAddr, sync::Arc};
    use tokio::{
        io::{AsyncReadExt, AsyncWriteExt},
        net::{TcpListener, TcpStream},
        sync::mpsc,
    };

    /// Starts a server that answers every request, and reports the end of each connection.
    async fn server() -> (SocketAddr, mpsc::UnboundedReceiver<()>) {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let (ended, ends) = mpsc::unbounded_channel();
        tokio::spawn(async move {
            while let Ok((mut stream, _)) = listener.accept().await {
                let ended = ended.clone();
                tokio::spawn(async move {
                    let answer = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok";
                    while let Ok(1..) = stream.read(&mut [0; 1024]).await {
                        stream.write_all(answer).await.unwrap();
                    }
                    ended.send(()).unwrap();
                });
            }
        });
        (address, ends)
    }

    /// Connects if the budget has a permit.
    async fn connect(
        address: SocketAddr,
        budget: &Arc<DescriptorBudget>,
    ) -> Option<BackendConnection> {
        let permit = budget.acquire(DescriptorUse::Request)?;
        let stream = Socket::new(TcpStream::connect(address).await.unwrap());
        let stream = BackendStream::Tcp(stream);
        let opened = BackendConnection::open(stream, permit, &Tasks::default()).await;
        Some(opened.unwrap())
    }

    /// Sends a request, and returns the guard of its connection after the body has been read.
    async fn get(connection: &mut BackendConnection) -> BusyGuard {
        assert!(connection.ready().await);
        let response = connection.try_send(Request::get("/").body(body::empty()).unwrap());
        let response = response.await.unwrap();
        let busy = connection.busy_guard();
        assert_eq!(response.collect().await.unwrap().to_bytes(), "ok");
        busy
    }

    #[tokio::test]
    async fn idle_connection_closes_when_another_one_needs_its_descriptor() {
        let ((first, mut ends), (second, _)) = (server().await, server().await);
        let descriptors = DescriptorBudget::new(1);
        let mut connection = connect(first, &descriptors).await.unwrap();
        let busy = get(&mut connection).await;
        // The request still holds its connection.
        assert!(connect(second, &descriptors).await.is_none());
        drop(busy);
        assert_eq!((descriptors.used(), descriptors.idle()), (1, 1));
        drop(get(&mut connection).await);
        assert_eq!(descriptors.used(), 1, "the connection was reused");
        let mut other = connect(second, &descriptors).await.unwrap();
        ends.recv().await.unwrap();
        assert!(!connection.ready().await);
        let busy = get(&mut other).await;
        assert_eq!((descriptors.used(), descriptors.idle()), (1, 0));
        drop(busy);
        assert!(connect(first, &descriptors).await.is_some());
        assert_eq!(descriptors.used(), 1);
    }
}
