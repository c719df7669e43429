//! A client's WebSocket through the proxy.

use crate::{
    arguments::Arguments,
    frame::{self, BINARY, CLOSE, PING, PONG},
};
use bytes::{Buf, BytesMut};
use std::{io, sync::Arc, time::Duration};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
    time::timeout,
};
use tokio_rustls::{
    TlsConnector,
    client::TlsStream,
    rustls::{ClientConfig, HandshakeKind, pki_types::ServerName},
};

/// Longer than any answer takes that still is one.
pub(crate) const PATIENCE: Duration = Duration::from_secs(10);

/// The key and its answer that RFC 6455, section 1.3, has as its example: so nobody here needs SHA-1.
pub(crate) const KEY: &str = "dGhlIHNhbXBsZSBub25jZQ==";
pub(crate) const ACCEPT: &str = "s3pPLMBiTxaQ9kYGzzhZRbK+xOo=";

/// Room for what is read at a time, if no message is longer.
const LITTLE: usize = 512;

pub(crate) struct Session {
    stream: TlsStream<TcpStream>,
    received: BytesMut,
    sending: BytesMut,
    /// What messages carry, behind their number.
    payload: Vec<u8>,
    number: u64,
    /// Where the next mask comes from.
    random: u64,
}

impl Session {
    /// TCP, TLS and the upgrade.
    pub(crate) async fn open(
        tls: Arc<ClientConfig>,
        arguments: &Arguments,
        path: &str,
    ) -> io::Result<Self> {
        timeout(PATIENCE, Self::upgraded(tls, arguments, path))
            .await
            .map_err(|_| io::Error::other("no session in time"))?
    }

    async fn upgraded(
        tls: Arc<ClientConfig>,
        arguments: &Arguments,
        path: &str,
    ) -> io::Result<Self> {
        let tcp = TcpStream::connect(arguments.to).await?;
        tcp.set_nodelay(true)?;
        let random = u64::from(tcp.local_addr()?.port()) << 16 | 0x9e37_79b9_0001;
        let name = ServerName::try_from(arguments.host.clone()).map_err(io::Error::other)?;
        let mut stream = TlsConnector::from(tls).connect(name, tcp).await?;
        // A message goes out by one write, however long it is.
        stream.get_mut().1.set_buffer_limit(None);
        let request = format!(
            "GET {path} HTTP/1.1\r\nHost: {}\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
             Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: {KEY}\r\n\r\n",
            arguments.host
        );
        stream.write_all(request.as_bytes()).await?;
        stream.flush().await?;
        let mut received = BytesMut::with_capacity(arguments.size + LITTLE);
        let head = head(&mut stream, &mut received).await?;
        let head = String::from_utf8_lossy(&head);
        if !head.starts_with("HTTP/1.1 101") || !head.contains(ACCEPT) {
            return Err(io::Error::other(format!("not upgraded: {head}")));
        }
        let payload = (0..arguments.size.max(8))
            .map(|at| (at % 251) as u8)
            .collect();
        let sending = BytesMut::new();
        Ok(Self {
            stream,
            received,
            sending,
            payload,
            number: 0,
            random,
        })
    }

    pub(crate) fn resumed(&self) -> bool {
        self.stream.get_ref().1.handshake_kind() == Some(HandshakeKind::Resumed)
    }

    /// One message there and back, no byte of it changed.
    pub(crate) async fn echo(&mut self) -> io::Result<()> {
        self.number += 1;
        self.payload[..8].copy_from_slice(&self.number.to_be_bytes());
        let key = self.mask();
        self.sending.clear();
        frame::masked(&mut self.sending, BINARY, &self.payload, key);
        self.stream.write_all(&self.sending).await?;
        self.stream.flush().await?;
        self.message().await
    }

    /// The next message must be what `payload` is now, but for the number, which counts up.
    pub(crate) async fn pushed(&mut self) -> io::Result<()> {
        self.number += 1;
        self.payload[..8].copy_from_slice(&self.number.to_be_bytes());
        self.message().await
    }

    /// Asks the backend to begin to push.
    pub(crate) async fn ask(&mut self) -> io::Result<()> {
        self.control(BINARY, b"go").await
    }

    async fn message(&mut self) -> io::Result<()> {
        let frame = self.next().await?;
        let right =
            frame.opcode == BINARY && self.received[frame.header..frame.end] == self.payload[..];
        self.received.advance(frame.end);
        match right {
            true => Ok(()),
            false => Err(io::Error::other(format!(
                "not what was sent, opcode {}",
                frame.opcode
            ))),
        }
    }

    /// Answers Pings until the session ends.
    pub(crate) async fn rest(&mut self) -> io::Result<()> {
        let frame = self.next().await?;
        Err(io::Error::other(format!(
            "unasked, opcode {}",
            frame.opcode
        )))
    }

    /// Close, its answer, and the end of the connection, which is the server's to begin (RFC 6455, section 7.1.1).
    pub(crate) async fn close(mut self) -> io::Result<()> {
        timeout(PATIENCE, async {
            self.control(CLOSE, &1000_u16.to_be_bytes()).await?;
            let frame = self.next().await?;
            if frame.opcode != CLOSE {
                return Err(io::Error::other("no Close in answer to Close"));
            }
            self.received.clear();
            // Not every proxy says close_notify.
            let _ = self.stream.read_buf(&mut self.received).await;
            let _ = self.stream.shutdown().await;
            Ok(())
        })
        .await
        .map_err(|_| io::Error::other("no end in time"))?
    }

    /// The next frame but for Pings, which are answered; it stays in the buffer.
    async fn next(&mut self) -> io::Result<frame::Frame> {
        loop {
            match frame::first(&self.received)? {
                Ok(frame) if frame.opcode == PING => {
                    let ping = self.received.split_to(frame.end);
                    self.control(PONG, &ping[frame.header..]).await?;
                }
                Ok(frame) => return Ok(frame),
                Err(needed) => {
                    self.received
                        .reserve((needed - self.received.len()).max(LITTLE));
                    if self.stream.read_buf(&mut self.received).await? == 0 {
                        return Err(io::ErrorKind::UnexpectedEof.into());
                    }
                }
            }
        }
    }

    async fn control(&mut self, opcode: u8, payload: &[u8]) -> io::Result<()> {
        let key = self.mask();
        self.sending.clear();
        frame::masked(&mut self.sending, opcode, payload, key);
        self.stream.write_all(&self.sending).await?;
        self.stream.flush().await
    }

    /// Another key for each frame (xorshift).
    fn mask(&mut self) -> [u8; 4] {
        self.random ^= self.random << 13;
        self.random ^= self.random >> 7;
        self.random ^= self.random << 17;
        (self.random as u32).to_ne_bytes()
    }
}

/// A head of HTTP, up to the empty line; what follows stays in the buffer.
pub(crate) async fn head<S>(stream: &mut S, buffer: &mut BytesMut) -> io::Result<BytesMut>
where
    S: tokio::io::AsyncRead + Unpin,
{
    loop {
        if let Some(at) = buffer.windows(4).position(|window| window == b"\r\n\r\n") {
            return Ok(buffer.split_to(at + 4));
        }
        if buffer.len() > 16_384 || stream.read_buf(buffer).await? == 0 {
            return Err(io::Error::other("no head of HTTP"));
        }
    }
}
