//! WebSockets as streams of one HTTP/2 connection (RFC 8441).

use crate::{arguments::Arguments, session::SESSION_TIMEOUT, wire};
use bytes::{Bytes, BytesMut};
use h2::{Ping, RecvStream, SendStream, client, client::SendRequest, ext::Protocol};
use http::{Method, Request, StatusCode};
use std::{future::poll_fn, io, sync::Arc};
use tokio::time::timeout;
use tokio_rustls::rustls::ClientConfig;

/// The flow-control windows of Chrome: for one stream, and for a connection.
const STREAM_WINDOW: u32 = 6 << 20;
const CONNECTION_WINDOW: u32 = 15 << 20;

/// An open connection; every clone can open streams.
#[derive(Clone)]
pub(crate) struct Connection {
    requests: SendRequest<Bytes>,
}

pub(crate) struct Stream {
    sending: SendStream<Bytes>,
    receiving: RecvStream,
}

impl Connection {
    /// Connects over TCP and TLS, and checks that the server supports extended CONNECT.
    pub(crate) async fn open(tls: Arc<ClientConfig>, arguments: &Arguments) -> io::Result<Self> {
        timeout(SESSION_TIMEOUT, Self::connect(tls, arguments))
            .await
            .map_err(|_| io::Error::other("no HTTP/2 in time"))?
    }

    async fn connect(tls: Arc<ClientConfig>, arguments: &Arguments) -> io::Result<Self> {
        let tls = wire::connect(tls, arguments).await?;
        if tls.get_ref().1.alpn_protocol() != Some(b"h2") {
            return Err(io::Error::other("the server does not offer HTTP/2"));
        }
        let (requests, mut connection) = client::Builder::new()
            .initial_window_size(STREAM_WINDOW)
            .initial_connection_window_size(CONNECTION_WINDOW)
            .enable_push(false)
            .handshake(tls)
            .await
            .map_err(io::Error::other)?;
        let mut pings = connection
            .ping_pong()
            .ok_or_else(|| io::Error::other("no PING support"))?;
        // The task ends with the last stream and the last clone of `requests`. The streams report its errors.
        tokio::spawn(connection);
        // The server sends its SETTINGS before the answer to the PING.
        pings.ping(Ping::opaque()).await.map_err(io::Error::other)?;
        match requests.is_extended_connect_protocol_enabled() {
            true => Ok(Self { requests }),
            false => Err(io::Error::other(
                "the server does not offer WebSockets over HTTP/2",
            )),
        }
    }

    /// Sends an extended CONNECT and checks for a 200.
    pub(crate) async fn websocket(&self, host: &str, path: &str) -> io::Result<Stream> {
        let request = Request::builder()
            .method(Method::CONNECT)
            .uri(format!("https://{host}{path}"))
            .extension(Protocol::from_static("websocket"))
            .header("sec-websocket-version", "13")
            .body(())
            .map_err(io::Error::other)?;
        // Waits for another stream to end if the server's stream limit is reached.
        let requests = self.requests.clone().ready().await;
        let (response, sending) = requests
            .and_then(|mut requests| requests.send_request(request, false))
            .map_err(io::Error::other)?;
        let response = response.await.map_err(io::Error::other)?;
        if response.status() != StatusCode::OK {
            return Err(io::Error::other(format!("not opened: {response:?}")));
        }
        Ok(Stream {
            sending,
            receiving: response.into_body(),
        })
    }
}

impl Stream {
    pub(crate) async fn send(&mut self, bytes: &[u8]) -> io::Result<()> {
        let mut left = Bytes::copy_from_slice(bytes);
        while !left.is_empty() {
            self.sending.reserve_capacity(left.len());
            while self.sending.capacity() == 0 {
                poll_fn(|cx| self.sending.poll_capacity(cx))
                    .await
                    .ok_or(io::ErrorKind::BrokenPipe)?
                    .map_err(io::Error::other)?;
            }
            let len = self.sending.capacity().min(left.len());
            self.sending
                .send_data(left.split_to(len), false)
                .map_err(io::Error::other)?;
        }
        Ok(())
    }

    /// Appends received bytes and returns them to the window. Returns 0 at the end of the stream.
    pub(crate) async fn receive(&mut self, into: &mut BytesMut) -> io::Result<usize> {
        while let Some(data) = self.receiving.data().await {
            let data = data.map_err(io::Error::other)?;
            self.receiving
                .flow_control()
                .release_capacity(data.len())
                .map_err(io::Error::other)?;
            into.extend_from_slice(&data);
            if !data.is_empty() {
                return Ok(data.len());
            }
        }
        Ok(0)
    }

    /// Sends END_STREAM. Fails silently if the server has reset the stream.
    pub(crate) fn end(&mut self) {
        let _ = self.sending.send_data(Bytes::new(), true);
    }
}
