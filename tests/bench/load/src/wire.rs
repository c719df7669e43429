//! What a session's bytes go through: a connection of its own, or one stream of many.

use crate::{
    arguments::Arguments,
    http2,
    session::{ACCEPT, KEY, LITTLE, head},
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

/// How a session comes to its wire.
#[derive(Clone)]
pub(crate) enum Way {
    /// A connection of its own, and the upgrade of HTTP/1.1.
    Fresh(Arc<ClientConfig>),
    /// A stream of a connection that is there.
    Stream(http2::Connection),
}

pub(crate) enum Wire {
    Connection(Box<TlsStream<TcpStream>>),
    Stream(http2::Stream),
}

/// TCP and TLS.
pub(crate) async fn connect(
    tls: Arc<ClientConfig>,
    arguments: &Arguments,
) -> io::Result<TlsStream<TcpStream>> {
    let tcp = TcpStream::connect(arguments.to).await?;
    tcp.set_nodelay(true)?;
    let name = ServerName::try_from(arguments.host.clone()).map_err(io::Error::other)?;
    let mut stream = TlsConnector::from(tls).connect(name, tcp).await?;
    // A message goes out by one write, however long it is.
    stream.get_mut().1.set_buffer_limit(None);
    Ok(stream)
}

impl Way {
    /// With what came behind the server's answer.
    pub(crate) async fn open(
        &self,
        arguments: &Arguments,
        path: &str,
    ) -> io::Result<(Wire, BytesMut)> {
        let mut received = BytesMut::with_capacity(arguments.size + LITTLE);
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
    match head.starts_with("HTTP/1.1 101") && head.contains(ACCEPT) {
        true => Ok(()),
        false => Err(io::Error::other(format!("not upgraded: {head}"))),
    }
}

impl Wire {
    /// Whether TLS was resumed for it.
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

    /// What has come; 0: the end.
    pub(crate) async fn receive(&mut self, into: &mut BytesMut) -> io::Result<usize> {
        match self {
            Self::Connection(stream) => stream.read_buf(into).await,
            Self::Stream(stream) => stream.receive(into).await,
        }
    }

    /// Its last word, once the server has said its own.
    pub(crate) async fn end(&mut self) {
        match self {
            Self::Connection(stream) => {
                let _ = stream.shutdown().await;
            }
            Self::Stream(stream) => stream.end(),
        }
    }
}
