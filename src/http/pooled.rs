//! The connections of the pool for plain requests: each has a descriptor permit, which is reclaimed while it is idle if
//! other connections need one.

use crate::net::{
    descriptors::{DescriptorBudget, DescriptorUse, PooledDescriptor},
    dial::DialError,
    early_response::EarlyResponseStream,
};
use ::http::Uri;
use hyper::rt::{Read, ReadBufCursor, Write};
use hyper_util::{
    client::legacy::connect::{Connected, Connection},
    rt::TokioIo,
};
use std::{
    error::Error,
    io,
    pin::Pin,
    sync::Arc,
    task::{self, Poll},
};
use tokio::net::TcpStream;
use tower_service::Service;

/// A connector that takes a permit for each connection.
#[derive(Debug, Clone)]
pub(crate) struct PooledConnector<C> {
    connector: C,
    descriptors: Arc<DescriptorBudget>,
}

/// A pooled connection. It reports its end when its permit is reclaimed.
pub(crate) struct PooledStream {
    io: TokioIo<EarlyResponseStream<TcpStream>>,
    descriptor: PooledDescriptor,
}

type BoxError = Box<dyn Error + Send + Sync>;

// === impl PooledConnector ===

impl<C> PooledConnector<C> {
    pub(crate) fn new(connector: C, descriptors: Arc<DescriptorBudget>) -> Self {
        PooledConnector {
            connector,
            descriptors,
        }
    }
}

impl<C> Service<Uri> for PooledConnector<C>
where
    C: Service<Uri, Response = TokioIo<TcpStream>, Error: Into<BoxError>, Future: Send + 'static>,
{
    type Response = PooledStream;
    type Error = BoxError;
    type Future = Pin<Box<dyn Future<Output = Result<PooledStream, BoxError>> + Send>>;

    fn poll_ready(&mut self, cx: &mut task::Context<'_>) -> Poll<Result<(), BoxError>> {
        self.connector.poll_ready(cx).map_err(Into::into)
    }

    fn call(&mut self, target: Uri) -> Self::Future {
        let permit = self.descriptors.acquire(DescriptorUse::Request);
        let connecting = permit.map(|permit| (permit, self.connector.call(target)));
        Box::pin(async move {
            let (permit, connecting) = connecting.ok_or(DialError::NoDescriptor)?;
            let io = connecting.await.map_err(Into::into)?;
            Ok(PooledStream {
                io: TokioIo::new(EarlyResponseStream::new(io.into_inner())),
                descriptor: PooledDescriptor::new(permit),
            })
        })
    }
}

// === impl PooledStream ===

impl Connection for PooledStream {
    /// Adds a [`PooledRef`](crate::net::descriptors::PooledRef) to the extensions of each response.
    fn connected(&self) -> Connected {
        Connected::new().extra(self.descriptor.pooled_ref())
    }
}

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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::net::descriptors::PooledRef;
    use ::http::Request;
    use bytes::Bytes;
    use http_body_util::{BodyExt, Empty};
    use hyper_util::{
        client::legacy::{Client, Error, connect::HttpConnector},
        rt::TokioExecutor,
    };
    use std::net::SocketAddr;
    use tokio::{
        io::{AsyncReadExt, AsyncWriteExt},
        net::TcpListener,
        sync::mpsc,
    };

    type TestClient = Client<PooledConnector<HttpConnector>, Empty<Bytes>>;

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

    /// Sends a request, and returns the reference to its connection after the body has been read.
    async fn get(client: &TestClient, address: SocketAddr) -> Result<PooledRef, Error> {
        let request = Request::get(format!("http://{address}/"));
        let response = client.request(request.body(Empty::new()).unwrap()).await?;
        let (mut parts, body) = response.into_parts();
        assert_eq!(body.collect().await.unwrap().to_bytes(), "ok");
        Ok(parts.extensions.remove().unwrap())
    }

    #[tokio::test]
    async fn idle_connection_closes_when_another_one_needs_its_descriptor() {
        let ((first, mut ends), (second, _)) = (server().await, server().await);
        let descriptors = DescriptorBudget::new(1);
        let connector = PooledConnector::new(HttpConnector::new(), descriptors.clone());
        let client: TestClient = Client::builder(TokioExecutor::new()).build(connector);
        let busy = get(&client, first).await.unwrap().busy_guard();
        // The request still holds its connection.
        assert!(get(&client, second).await.unwrap_err().is_connect());
        drop(busy);
        assert_eq!((descriptors.used(), descriptors.idle()), (1, 1));
        drop(get(&client, first).await.unwrap().busy_guard());
        assert_eq!(descriptors.used(), 1, "the connection was reused");
        let other = get(&client, second).await.unwrap();
        ends.recv().await.unwrap();
        assert_eq!((descriptors.used(), descriptors.idle()), (1, 0));
        drop(other.busy_guard());
        drop(get(&client, first).await.unwrap().busy_guard());
        assert_eq!(descriptors.used(), 1);
    }
}
