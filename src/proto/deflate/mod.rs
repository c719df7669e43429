//! permessage-deflate (RFC 7692) on behalf of the backend: negotiation with the client, and conversion of the frames of
//! either direction in chunks.
//!
//! A message may be fragmented differently after conversion, which RFC 6455 §5.4 allows to an endpoint that negotiated
//! the extension. The output of one call is limited, so the bound on messages also applies to a message that inflates a
//! thousandfold.
//!
//! This file has the negotiated parameters. `inflate` converts the client's frames, `compress` those of the backend.

pub mod compress;
pub mod inflate;

use crate::proto::{
    frame::{self, FrameHeader, Opcode},
    handshake::{self, Extension},
};
use http::HeaderMap;
use std::fmt;

/// Negotiated parameters (RFC 7692 §7.1). Lockgate's compressor keeps no context between messages, so that an idle
/// session holds no window for it; the client's may, in a window that is small if its offer allows that.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct DeflateParams {
    /// Window of our compressor, in bits; `None`: the client sets no limit, and the largest window is used.
    pub server_window_bits: Option<u8>,
    /// Window of the client's compressor, in bits; `None`: the client's offer does not allow us to limit it.
    client_window_bits: Option<u8>,
    /// Whether the client's compressor keeps its window from one message to the next (context takeover).
    pub client_keeps_context: bool,
}

// === impl DeflateParams ===

impl DeflateParams {
    /// Returns the parameters for the first acceptable offer in `Sec-WebSocket-Extensions`. Malformed ones are skipped.
    pub fn negotiate(headers: &HeaderMap) -> Option<DeflateParams> {
        let offers = handshake::parse_extensions(headers).flatten();
        let mut offers = offers.filter(|offer| offer.name == "permessage-deflate");
        offers.find_map(|offer| DeflateParams::accept(&offer))
    }

    fn accept(offer: &Extension<'_>) -> Option<DeflateParams> {
        let mut params = DeflateParams {
            server_window_bits: None,
            client_window_bits: None,
            client_keeps_context: true,
        };
        let mut seen = Vec::new();
        for (name, value) in offer.parameters() {
            if seen.contains(&name) {
                return None;
            }
            seen.push(name);
            match (name, value) {
                ("server_no_context_takeover", None) => {}
                ("client_no_context_takeover", None) => params.client_keeps_context = false,
                // zlib cannot compress with a window of 8 bits (256 bytes).
                ("server_max_window_bits", Some(bits)) => {
                    params.server_window_bits =
                        Some(handshake::parse_window_bits(bits).filter(|bits| *bits > 8)?);
                }
                ("client_max_window_bits", None) => {
                    params.client_window_bits = Some(CLIENT_WINDOW_BITS)
                }
                ("client_max_window_bits", Some(bits)) => {
                    params.client_window_bits =
                        Some(handshake::parse_window_bits(bits)?.min(CLIENT_WINDOW_BITS));
                }
                _ => return None,
            }
        }
        Some(params)
    }

    /// Returns the window to inflate the client's messages with, in bits. zlib has none below 9 bits; a window larger
    /// than the client's works as well.
    pub fn inflate_window_bits(self) -> u8 {
        self.client_window_bits.unwrap_or(MAX_WINDOW_BITS).max(9)
    }
}

impl fmt::Display for DeflateParams {
    /// Writes the value of `Sec-WebSocket-Extensions` in the response.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("permessage-deflate; server_no_context_takeover")?;
        if !self.client_keeps_context {
            f.write_str("; client_no_context_takeover")?;
        }
        if let Some(bits) = self.server_window_bits {
            write!(f, "; server_max_window_bits={bits}")?;
        }
        if let Some(bits) = self.client_window_bits {
            write!(f, "; client_max_window_bits={bits}")?;
        }
        Ok(())
    }
}

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
        frame::apply_mask(payload, key);
    }
    out.extend_from_slice(payload);
}

/// The last bytes of a compressor's flush, which are removed from the end of every message (RFC 7692 §7.2.1).
pub const TAIL: [u8; 4] = [0, 0, 0xff, 0xff];

/// Maximum window that a client is granted if it lets us choose: 4 KiB, enough for the messages that browsers send and
/// small enough for thousands of sessions.
const CLIENT_WINDOW_BITS: u8 = 12;

/// Maximum window of DEFLATE: 32 KiB (RFC 7692 §7.1.2).
pub const MAX_WINDOW_BITS: u8 = 15;

#[cfg(test)]
mod tests;
