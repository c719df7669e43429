//! The transport of a session: a TLS connection, or a stream of an HTTP/2 connection.

use crate::{
    arguments::Arguments,
    http2,
    session::{ACCEPT, KEY, READ_BUF_LEN, head},
};
use bytes::BytesMut;
use std::{io, sync::Arc};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
};
use tokio_rustls::{
    TlsConnector,
    client::TlsStream,
    rustls::{ClientConfig, HandshakeKind, pki_types::ServerName},
};

/// How a session gets its transport.
#[derive(Clone)]
pub(crate) enum Way {
    /// A new connection with an HTTP/1.1 upgrade.
    Fresh(Arc<ClientConfig>),
    /// A stream of an existing connection.
    Stream(http2::Connection),
}

pub(crate) enum Wire {
    Connection(Box<TlsStream<TcpStream>>),
    Stream(http2::Stream),
}

/// Connects over TCP and TLS.
pub(crate) async fn connect(
    tls: Arc<ClientConfig>,
    arguments: &Arguments,
) -> io::Result<TlsStream<TcpStream>> {
    let tcp = TcpStream::connect(arguments.to).await?;
    tcp.set_nodelay(true)?;
    let name = ServerName::try_from(arguments.host.clone()).map_err(io::Error::other)?;
    let mut stream = TlsConnector::from(tls).connect(name, tcp).await?;
    // Without a limit, a message of any length is one write.
    stream.get_mut().1.set_buffer_limit(None);
    Ok(stream)
}

impl Way {
    /// Opens the transport. Also returns the bytes received after the server's response.
    pub(crate) async fn open(
        &self,
        arguments: &Arguments,
        path: &str,
    ) -> io::Result<(Wire, BytesMut)> {
        let mut received = BytesMut::with_capacity(arguments.size + READ_BUF_LEN);
        let wire = match self {
            Self::Fresh(tls) => {
                let mut stream = connect(tls.clone(), arguments).await?;
                upgrade(&mut stream, &mut received, &arguments.host, path).await?;
                Wire::Connection(Box::new(stream))
            }
            Self::Stream(connection) => {
                Wire::Stream(connection.websocket(&arguments.host, path).await?)
            }
        };
        Ok((wire, received))
    }
}

async fn upgrade(
    stream: &mut TlsStream<TcpStream>,
    received: &mut BytesMut,
    host: &str,
    path: &str,
) -> io::Result<()> {
    let request = format!(
        "GET {path} HTTP/1.1\r\nHost: {host}\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
         Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: {KEY}\r\n\r\n"
    );
    stream.write_all(request.as_bytes()).await?;
    stream.flush().await?;
    let head = head(stream, received).await?;
    let head = String::from_utf8_lossy(&head);
    if head.starts_with("HTTP/1.1 101") && head.contains(ACCEPT) {
        return Ok(());
    }
    Err(io::Error::other(format!("not upgraded: {head}")))
}

impl Wire {
    /// Returns whether its TLS session was resumed.
    pub(crate) fn resumed(&self) -> bool {
        match self {
            Self::Connection(stream) => {
                stream.get_ref().1.handshake_kind() == Some(HandshakeKind::Resumed)
            }
            Self::Stream(_) => false,
        }
    }

    pub(crate) async fn send(&mut self, bytes: &[u8]) -> io::Result<()> {
        match self {
            Self::Connection(stream) => {
                stream.write_all(bytes).await?;
                stream.flush().await
            }
            Self::Stream(stream) => stream.send(bytes).await,
        }
    }

    /// Appends received bytes. Returns 0 at the end.
    pub(crate) async fn receive(&mut self, into: &mut BytesMut) -> io::Result<usize> {
        match self {
            Self::Connection(stream) => stream.read_buf(into).await,
            Self::Stream(stream) => stream.receive(into).await,
        }
    }

    /// Ends the transport after the server has ended its side.
    pub(crate) async fn end(&mut self) {
        match self {
            Self::Connection(stream) => {
                let _ = stream.shutdown().await;
            }
            Self::Stream(stream) => stream.end(),
        }
    }
}
