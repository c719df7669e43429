//! permessage-deflate (RFC 7692) used by Lockgate instead of the backend: negotiation with the client, and conversion
//! of the frames of either direction, piece by piece.
//!
//! A message may be fragmented differently after conversion, which RFC 6455 §5.4 allows to an endpoint that negotiated
//! the extension. The output of one call never exceeds the space given, so the bound on messages applies to a message
//! that inflates a thousandfold as it does to one that was never compressed.

mod agreement;
mod inflate;
mod pack;

pub use agreement::DeflateParams;
pub use inflate::FrameInflater;
pub use pack::FrameDeflater;

use super::frame::{FrameHeader, Opcode};

/// The end of every message that a compressor has flushed; it is not sent (RFC 7692 §7.2.1).
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
