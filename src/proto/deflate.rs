//! permessage-deflate (RFC 7692) spoken by us instead of the backend: what is agreed on with a client, and the frames of
//! either direction turned into others, piece by piece.
//!
//! A message may come out in other fragments than it went in: whoever negotiated the extension may do that (RFC 6455 §5.4).
//! What comes out is never more than the room that there is for it, so a message that inflates a thousandfold is met by
//! the same bound on messages as one that was never compressed.

mod agreement;
mod inflate;
mod pack;

pub use agreement::DeflateParams;
pub use inflate::FrameInflater;
pub use pack::FrameDeflater;

use super::frame::{FrameHeader, Opcode};

/// What ends every message that a compressor has flushed, and does not travel (RFC 7692 §7.2.1).
const TAIL: [u8; 4] = [0, 0, 0xff, 0xff];

/// Writes a data frame; masked, if there is a key.
fn write_frame(
    out: &mut Vec<u8>,
    fin: bool,
    rsv: u8,
    opcode: Opcode,
    mask: Option<[u8; 4]>,
    payload: &mut [u8],
) {
    let header = FrameHeader {
        fin,
        rsv,
        opcode,
        mask,
        payload_len: payload.len() as u64,
        len: 0,
    };
    header.write(out);
    if let Some(key) = mask {
        super::frame::apply_mask(payload, key);
    }
    out.extend_from_slice(payload);
}

#[cfg(test)]
mod tests;
