//! HTTP/2 as bytes: frames and header lists are not checked, so that invalid ones can be sent.

use super::within;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
};
use tokio_rustls::client::TlsStream;

/// One connection, read frame by frame.
pub(crate) struct RawH2 {
    io: TlsStream<TcpStream>,
}

/// One frame (RFC 9113 §4.1).
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct RawFrame {
    pub(crate) kind: u8,
    pub(crate) flags: u8,
    pub(crate) stream: u32,
    pub(crate) payload: Vec<u8>,
}

pub(crate) const DATA: u8 = 0;
pub(crate) const HEADERS: u8 = 1;
pub(crate) const RST_STREAM: u8 = 3;
pub(crate) const SETTINGS: u8 = 4;
pub(crate) const PING: u8 = 6;
pub(crate) const GOAWAY: u8 = 7;
pub(crate) const WINDOW_UPDATE: u8 = 8;
pub(crate) const CONTINUATION: u8 = 9;

pub(crate) const END_STREAM: u8 = 1;
pub(crate) const END_HEADERS: u8 = 4;

/// RFC 9113 §3.4, and SETTINGS that leave the peer no dynamic table: [`RawFrame::status`] has none either.
pub(crate) const HELLO: &[u8] =
    b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\x00\x00\x06\x04\x00\x00\x00\x00\x00\x00\x01\x00\x00\x00\x00";

// === impl RawH2 ===

impl RawH2 {
    /// Sends only these bytes, which must begin with [`HELLO`].
    pub(crate) async fn over(io: TlsStream<TcpStream>, bytes: &[u8]) -> RawH2 {
        let mut raw = RawH2 { io };
        raw.try_send(bytes).await;
        raw
    }

    /// Sends what the peer accepts; returns whether it accepted everything.
    pub(crate) async fn try_send(&mut self, bytes: &[u8]) -> bool {
        let sent = within("sending", async {
            self.io.write_all(bytes).await?;
            self.io.flush().await
        });
        sent.await.is_ok()
    }

    /// The next frame; `None` once the connection has ended or failed.
    #[track_caller]
    pub(crate) fn frame(&mut self) -> impl Future<Output = Option<RawFrame>> {
        within("a frame", read_frame(&mut self.io))
    }

    /// The stream, so that it can be split.
    pub(crate) fn into_inner(self) -> TlsStream<TcpStream> {
        self.io
    }
}

pub(crate) async fn read_frame(io: &mut (impl AsyncReadExt + Unpin)) -> Option<RawFrame> {
    let mut head = [0; 9];
    io.read_exact(&mut head).await.ok()?;
    let [a, b, c, kind, flags, stream @ ..] = head;
    let mut payload = vec![0; u32::from_be_bytes([0, a, b, c]) as usize];
    io.read_exact(&mut payload).await.ok()?;
    let stream = u32::from_be_bytes(stream);
    Some(RawFrame {
        kind,
        flags,
        stream,
        payload,
    })
}

// === impl RawFrame ===

impl RawFrame {
    /// The error of a RST_STREAM (RFC 9113 §6.4) or a GOAWAY (§6.8).
    #[track_caller]
    pub(crate) fn error(&self) -> u32 {
        let from = match self.kind {
            RST_STREAM => 0,
            GOAWAY => 4,
            _ => panic!("it carries no error: {self:?}"),
        };
        let error = self.payload[from..].first_chunk().expect("four octets");
        u32::from_be_bytes(*error)
    }

    /// The `:status` that a HEADERS frame begins with (RFC 7541 §6, appendices A and B).
    #[track_caller]
    pub(crate) fn status(&self) -> u16 {
        // The peer may first send a dynamic table size update (RFC 7541 §6.3).
        let block = match self.payload.first() {
            Some(update) if update >> 5 == 1 => &self.payload[1..],
            _ => &self.payload,
        };
        match *block {
            [indexed @ 0x88..=0x8E, ..] => {
                [200, 204, 206, 304, 400, 404, 500][usize::from(indexed - 0x88)]
            }
            // `:status` by its index 8: 0x48 is a literal with indexing, 0x18 never indexed, 0x08 without indexing.
            [0x48 | 0x18 | 0x08, 3, a, b, c, ..] => [a, b, c]
                .iter()
                .fold(0, |n, digit| n * 10 + u16::from(digit - b'0')),
            [0x48 | 0x18 | 0x08, length, ..] if length & 0x80 != 0 => {
                digits(&block[2..2 + usize::from(length & 0x7F)])
            }
            _ => panic!("no status: {block:02x?}"),
        }
    }
}

/// Three digits in the Huffman code: `0` to `2` have five bits, the others six.
fn digits(coded: &[u8]) -> u16 {
    let mut bits = coded
        .iter()
        .flat_map(|byte| (0..8).rev().map(move |at| u16::from(byte >> at & 1)));
    let mut take = |n: usize| bits.by_ref().take(n).fold(0, |value, bit| value << 1 | bit);
    (0..3).fold(0, |number, _| {
        let five = take(5);
        number * 10
            + if five < 3 {
                five
            } else {
                (five << 1 | take(1)) - 22
            }
    })
}

/// Encodes a frame.
pub(crate) fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    let length = u32::try_from(payload.len()).expect("a frame").to_be_bytes();
    let head = [&length[1..], &[kind, flags], &stream.to_be_bytes()].concat();
    [&head, payload].concat()
}

/// Encodes a header list; each field is a literal without indexing and without Huffman (RFC 7541 §6.2.2).
pub(crate) fn hpack<N: AsRef<[u8]>, V: AsRef<[u8]>>(list: &[(N, V)]) -> Vec<u8> {
    let mut block = vec![];
    for (name, value) in list {
        block.push(0);
        for text in [name.as_ref(), value.as_ref()] {
            length(&mut block, text.len());
            block.extend(text);
        }
    }
    block
}

/// An integer with a prefix of seven bits (RFC 7541 §5.1).
fn length(block: &mut Vec<u8>, length: usize) {
    if length < 127 {
        return block.push(length as u8);
    }
    block.push(127);
    let mut rest = length - 127;
    while rest >= 128 {
        block.push((rest % 128) as u8 | 0x80);
        rest /= 128;
    }
    block.push(rest as u8);
}
