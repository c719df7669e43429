//! WebSockets as streams of one HTTP/2 connection (RFC 8441).

use crate::{arguments::Arguments, session::PATIENCE, wire};
use bytes::{Bytes, BytesMut};
use h2::{Ping, RecvStream, SendStream, client, client::SendRequest, ext::Protocol};
use http::{Method, Request, StatusCode};
use std::{future::poll_fn, io, sync::Arc};
use tokio::time::timeout;
use tokio_rustls::rustls::ClientConfig;

/// What Chrome lets be on its way to it: in one stream, and in all of a connection.
const STREAM_WINDOW: u32 = 6 << 20;
const WINDOW: u32 = 15 << 20;

/// An open connection. Every holder of a copy can open a stream.
#[derive(Clone)]
pub(crate) struct Connection {
    requests: SendRequest<Bytes>,
}

pub(crate) struct Stream {
    sending: SendStream<Bytes>,
    receiving: RecvStream,
}

impl Connection {
    /// TCP, TLS, and the server's word that it takes extended CONNECT.
    pub(crate) async fn open(tls: Arc<ClientConfig>, arguments: &Arguments) -> io::Result<Self> {
        timeout(PATIENCE, Self::greeted(tls, arguments))
            .await
            .map_err(|_| io::Error::other("no HTTP/2 in time"))?
    }

    async fn greeted(tls: Arc<ClientConfig>, arguments: &Arguments) -> io::Result<Self> {
        let tls = wire::connect(tls, arguments).await?;
        if tls.get_ref().1.alpn_protocol() != Some(b"h2") {
            return Err(io::Error::other("no HTTP/2 offered"));
        }
        let (requests, mut connection) = client::Builder::new()
            .initial_window_size(STREAM_WINDOW)
            .initial_connection_window_size(WINDOW)
            .enable_push(false)
            .handshake(tls)
            .await
            .map_err(io::Error::other)?;
        let mut pings = connection
            .ping_pong()
            .ok_or_else(|| io::Error::other("no way to ping"))?;
        // It ends with the last stream and the last copy of `requests`; why, its streams say.
        tokio::spawn(connection);
        // The server's settings come before anything else that it says.
        pings.ping(Ping::opaque()).await.map_err(io::Error::other)?;
        match requests.is_extended_connect_protocol_enabled() {
            true => Ok(Self { requests }),
            false => Err(io::Error::other("no WebSockets over HTTP/2 offered")),
        }
    }

    /// An extended CONNECT, and a 200.
    pub(crate) async fn websocket(&self, host: &str, path: &str) -> io::Result<Stream> {
        let request = Request::builder()
            .method(Method::CONNECT)
            .uri(format!("https://{host}{path}"))
            .extension(Protocol::from_static("websocket"))
            .header("sec-websocket-version", "13")
            .body(())
            .map_err(io::Error::other)?;
        // As many streams as the server allows: beyond that it waits for one to end.
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
            let room = self.sending.capacity().min(left.len());
            self.sending
                .send_data(left.split_to(room), false)
                .map_err(io::Error::other)?;
        }
        Ok(())
    }

    /// What has come; 0: the end. It is ours now, and no longer part of the window.
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

    /// Our half of the end, which a server that reset the stream does not need.
    pub(crate) fn end(&mut self) {
        let _ = self.sending.send_data(Bytes::new(), true);
    }
}
