//! permessage-deflate (RFC 7692) on behalf of the backend: negotiation with the client, and conversion of the frames of
//! either direction in chunks.
//!
//! A message may be fragmented differently after conversion, which RFC 6455 §5.4 allows to an endpoint that negotiated
//! the extension. The output of one call is limited, so the bound on messages also applies to a message that inflates a
//! thousandfold.

mod agreement;
mod inflate;
mod pack;

pub use agreement::DeflateParams;
pub use inflate::FrameInflater;
pub use pack::FrameDeflater;

use super::frame::{FrameHeader, Opcode};

/// The last bytes of a compressor's flush, which are removed from the end of every message (RFC 7692 §7.2.1).
const TAIL: [u8; 4] = [0, 0, 0xff, 0xff];

/// Appends a frame to `out`; the payload is masked if there is a key.
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
