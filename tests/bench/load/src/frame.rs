//! The frames of RFC 6455, section 5.2, that the benchmark needs: unfragmented, masked by clients, parsed from a
//! buffer.

use bytes::BytesMut;
use std::io;

pub(crate) const BINARY: u8 = 2;
pub(crate) const CLOSE: u8 = 8;
pub(crate) const PING: u8 = 9;
pub(crate) const PONG: u8 = 10;

/// The layout of a complete frame at the start of a buffer.
pub(crate) struct Frame {
    pub(crate) opcode: u8,
    pub(crate) mask: Option<[u8; 4]>,
    /// The offset of the payload.
    pub(crate) header: usize,
    /// The offset of the end of the frame.
    pub(crate) end: usize,
}

/// Returns the first frame of the buffer, or the number of bytes that the buffer must have before it can be parsed.
pub(crate) fn first(buffer: &[u8]) -> io::Result<Result<Frame, usize>> {
    let [first, second, ..] = *buffer else {
        return Ok(Err(2));
    };
    if first & 0xf0 != 0x80 {
        return Err(io::Error::other("a fragment, or reserved bits"));
    }
    let masked = second & 0x80 != 0;
    let (length, mut header) = match second & 0x7f {
        126 => match buffer.get(2..4) {
            Some(bytes) => (u16::from_be_bytes([bytes[0], bytes[1]]).into(), 4),
            None => return Ok(Err(4)),
        },
        127 => match buffer.get(2..10).and_then(|bytes| bytes.try_into().ok()) {
            Some(bytes) => (u64::from_be_bytes(bytes) as usize, 10),
            None => return Ok(Err(10)),
        },
        short => (short.into(), 2),
    };
    let mut mask = None;
    if masked {
        mask = buffer
            .get(header..header + 4)
            .and_then(|bytes| bytes.try_into().ok());
        header += 4;
    }
    let end = header.saturating_add(length);
    if buffer.len() < end {
        return Ok(Err(end));
    }
    let opcode = first & 0x0f;
    Ok(Ok(Frame {
        opcode,
        mask,
        header,
        end,
    }))
}

/// Returns the header of an unmasked frame, and its length.
pub(crate) fn header(opcode: u8, length: usize) -> ([u8; 10], usize) {
    let mut bytes = [0; 10];
    bytes[0] = 0x80 | opcode;
    let used = match length {
        0..=125 => {
            bytes[1] = length as u8;
            2
        }
        126..=0xffff => {
            bytes[1] = 126;
            bytes[2..4].copy_from_slice(&(length as u16).to_be_bytes());
            4
        }
        _ => {
            bytes[1] = 127;
            bytes[2..10].copy_from_slice(&(length as u64).to_be_bytes());
            10
        }
    };
    (bytes, used)
}

/// Appends a masked frame of a client.
pub(crate) fn masked(into: &mut BytesMut, opcode: u8, payload: &[u8], key: [u8; 4]) {
    let (mut bytes, used) = header(opcode, payload.len());
    bytes[1] |= 0x80;
    into.extend_from_slice(&bytes[..used]);
    into.extend_from_slice(&key);
    let start = into.len();
    into.extend_from_slice(payload);
    apply(&mut into[start..], key);
}

/// Masks or unmasks the payload.
pub(crate) fn apply(payload: &mut [u8], key: [u8; 4]) {
    let wide = u64::from_ne_bytes([
        key[0], key[1], key[2], key[3], key[0], key[1], key[2], key[3],
    ]);
    let mut chunks = payload.chunks_exact_mut(8);
    for chunk in &mut chunks {
        let word = u64::from_ne_bytes(chunk.try_into().expect("eight bytes")) ^ wide;
        chunk.copy_from_slice(&word.to_ne_bytes());
    }
    for (byte, key) in chunks.into_remainder().iter_mut().zip(key.iter().cycle()) {
        *byte ^= key;
    }
}
