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

/// The time limit for opening or closing a session.
pub(crate) const SESSION_TIMEOUT: Duration = Duration::from_secs(10);

/// The example key of RFC 6455, section 1.3, and its accept value.
pub(crate) const KEY: &str = "dGhlIHNhbXBsZSBub25jZQ==";
pub(crate) const ACCEPT: &str = "s3pPLMBiTxaQ9kYGzzhZRbK+xOo=";

/// The minimum length of the read buffer; it grows for longer messages.
pub(crate) const READ_BUF_LEN: usize = 512;

/// A different seed for the masking keys of each session.
static SEEDS: AtomicU64 = AtomicU64::new(0x9e37_79b9_0001);

pub(crate) struct Session {
    wire: Wire,
    received: BytesMut,
    sending: BytesMut,
    /// The payload; its first eight bytes are the number of the message.
    payload: Vec<u8>,
    number: u64,
    /// The state of the generator of masking keys.
    random: u64,
}

impl Session {
    /// Opens a session on a new or an existing connection, up to the server's 101 or 200.
    pub(crate) async fn open(way: &Way, arguments: &Arguments, path: &str) -> io::Result<Self> {
        let (wire, received) = timeout(SESSION_TIMEOUT, way.open(arguments, path))
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

    /// Sends a message and checks that its echo is identical.
    pub(crate) async fn echo(&mut self) -> io::Result<()> {
        self.number += 1;
        self.payload[..8].copy_from_slice(&self.number.to_be_bytes());
        let key = self.mask();
        self.sending.clear();
        frame::masked(&mut self.sending, BINARY, &self.payload, key);
        self.wire.send(&self.sending).await?;
        self.message().await
    }

    /// Receives the next pushed message and checks its number and payload.
    pub(crate) async fn receive_pushed(&mut self) -> io::Result<()> {
        self.number += 1;
        self.payload[..8].copy_from_slice(&self.number.to_be_bytes());
        self.message().await
    }

    /// Requests the backend to start pushing.
    pub(crate) async fn start_push(&mut self) -> io::Result<()> {
        self.control(BINARY, b"go").await
    }

    async fn message(&mut self) -> io::Result<()> {
        let frame = self.next().await?;
        let matches =
            frame.opcode == BINARY && self.received[frame.header..frame.end] == self.payload[..];
        self.received.advance(frame.end);
        if matches {
            return Ok(());
        }
        Err(io::Error::other(format!(
            "not the expected message, opcode {}",
            frame.opcode
        )))
    }

    /// Answers Pings until the session ends.
    pub(crate) async fn answer_pings(&mut self) -> io::Result<()> {
        let frame = self.next().await?;
        Err(io::Error::other(format!(
            "unexpected frame, opcode {}",
            frame.opcode
        )))
    }

    /// Sends a Close, waits for the answer and the end of the connection or stream. The server ends first (RFC 6455,
    /// section 7.1.1).
    pub(crate) async fn close(mut self) -> io::Result<()> {
        timeout(SESSION_TIMEOUT, async {
            self.control(CLOSE, &1000_u16.to_be_bytes()).await?;
            let frame = self.next().await?;
            if frame.opcode != CLOSE {
                return Err(io::Error::other("no Close in answer to Close"));
            }
            self.received.clear();
            // Some proxies send no close_notify, which is an error here.
            let _ = self.wire.receive(&mut self.received).await;
            self.wire.end().await;
            Ok(())
        })
        .await
        .map_err(|_| io::Error::other("not closed in time"))?
    }

    /// Returns the next frame, which stays in the buffer. Pings are answered and skipped.
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
                        .reserve((needed - self.received.len()).max(READ_BUF_LEN));
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

    /// Returns a new masking key (xorshift).
    fn mask(&mut self) -> [u8; 4] {
        self.random ^= self.random << 13;
        self.random ^= self.random >> 7;
        self.random ^= self.random << 17;
        (self.random as u32).to_ne_bytes()
    }
}

/// Reads an HTTP head up to the empty line; the bytes after it stay in the buffer.
pub(crate) async fn head<S>(stream: &mut S, buffer: &mut BytesMut) -> io::Result<BytesMut>
where
    S: tokio::io::AsyncRead + Unpin,
{
    loop {
        if let Some(at) = buffer.windows(4).position(|window| window == b"\r\n\r\n") {
            return Ok(buffer.split_to(at + 4));
        }
        if buffer.len() > 16_384 || stream.read_buf(buffer).await? == 0 {
            return Err(io::Error::other("no HTTP head"));
        }
    }
}
