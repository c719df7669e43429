//! A client's WebSocket through the proxy.

use crate::{
    arguments::Arguments,
    frame::{self, BINARY, CLOSE, PING, PONG},
    wire::{Way, Wire},
};
use bytes::{Buf, BytesMut};
use std::{
    io,
    sync::atomic::{AtomicU64, Ordering},
    time::Duration,
};
use tokio::{io::AsyncReadExt, time::timeout};

/// Longer than any answer takes that still is one.
pub(crate) const PATIENCE: Duration = Duration::from_secs(10);

/// The key and its answer that RFC 6455, section 1.3, has as its example.
pub(crate) const KEY: &str = "dGhlIHNhbXBsZSBub25jZQ==";
pub(crate) const ACCEPT: &str = "s3pPLMBiTxaQ9kYGzzhZRbK+xOo=";

/// Room for what is read at a time, if no message is longer.
pub(crate) const LITTLE: usize = 512;

/// Another beginning for each session's masks.
static SEEDS: AtomicU64 = AtomicU64::new(0x9e37_79b9_0001);

pub(crate) struct Session {
    wire: Wire,
    received: BytesMut,
    sending: BytesMut,
    /// What messages carry, behind their number.
    payload: Vec<u8>,
    number: u64,
    /// Where the next mask comes from.
    random: u64,
}

impl Session {
    /// From nothing, or from the connection that is there, up to the server's consent.
    pub(crate) async fn open(way: &Way, arguments: &Arguments, path: &str) -> io::Result<Self> {
        let (wire, received) = timeout(PATIENCE, way.open(arguments, path))
            .await
            .map_err(|_| io::Error::other("no session in time"))??;
        let payload = (0..arguments.size.max(8))
            .map(|at| (at % 251) as u8)
            .collect();
        Ok(Self {
            wire,
            received,
            sending: BytesMut::new(),
            payload,
            number: 0,
            random: SEEDS.fetch_add(1 << 40 | 2, Ordering::Relaxed),
        })
    }

    pub(crate) fn resumed(&self) -> bool {
        self.wire.resumed()
    }

    /// One message there and back, no byte of it changed.
    pub(crate) async fn echo(&mut self) -> io::Result<()> {
        self.number += 1;
        self.payload[..8].copy_from_slice(&self.number.to_be_bytes());
        let key = self.mask();
        self.sending.clear();
        frame::masked(&mut self.sending, BINARY, &self.payload, key);
        self.wire.send(&self.sending).await?;
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

    /// Close, its answer, and the end of the connection or stream, which is the server's to begin (RFC 6455, section 7.1.1).
    pub(crate) async fn close(mut self) -> io::Result<()> {
        timeout(PATIENCE, async {
            self.control(CLOSE, &1000_u16.to_be_bytes()).await?;
            let frame = self.next().await?;
            if frame.opcode != CLOSE {
                return Err(io::Error::other("no Close in answer to Close"));
            }
            self.received.clear();
            // Not every proxy says close_notify.
            let _ = self.wire.receive(&mut self.received).await;
            self.wire.end().await;
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
                    if self.wire.receive(&mut self.received).await? == 0 {
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
        self.wire.send(&self.sending).await
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
