//! Which of a client's offers is taken, and how it is answered (RFC 7692 §7.1).

use super::super::handshake::extensions::{self, Extension};
use http::HeaderMap;
use std::fmt;

/// Negotiated parameters. Lockgate keeps no context between messages, so that an idle session holds no window; a client
/// may, in the smallest window that its offer permits.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct DeflateParams {
    /// Our window; `None`: the client wants no less than the largest.
    pub(super) ours: Option<u8>,
    /// The client's, where it lets us choose.
    theirs: Option<u8>,
    /// Whether the client keeps it from one message to the next.
    pub(super) keeps: bool,
}

// === impl DeflateParams ===

impl DeflateParams {
    /// Returns the first acceptable offer in `Sec-WebSocket-Extensions`. Malformed offers were refused before.
    pub fn of(headers: &HeaderMap) -> Option<DeflateParams> {
        let offers = extensions::read(headers).flatten();
        let mut offers = offers.filter(|offer| offer.name == "permessage-deflate");
        offers.find_map(|offer| DeflateParams::to(&offer))
    }

    fn to(offer: &Extension<'_>) -> Option<DeflateParams> {
        let mut agreement = DeflateParams {
            ours: None,
            theirs: None,
            keeps: true,
        };
        let mut seen = Vec::new();
        for (name, value) in offer.parameters() {
            if seen.contains(&name) {
                return None;
            }
            seen.push(name);
            match (name, value) {
                ("server_no_context_takeover", None) => {}
                ("client_no_context_takeover", None) => agreement.keeps = false,
                // zlib has no window of 256 bytes to compress with.
                ("server_max_window_bits", Some(bits)) => {
                    agreement.ours = Some(extensions::bits(bits).filter(|bits| *bits > 8)?);
                }
                ("client_max_window_bits", None) => agreement.theirs = Some(SMALL),
                ("client_max_window_bits", Some(bits)) => {
                    agreement.theirs = Some(extensions::bits(bits)?.min(SMALL));
                }
                _ => return None,
            }
        }
        Some(agreement)
    }

    /// The window that the client's messages are inflated with; zlib has none below 9 bits, and larger ones do as well.
    pub(super) fn window(self) -> u8 {
        self.theirs.unwrap_or(LARGEST).max(9)
    }
}

impl fmt::Display for DeflateParams {
    /// As the answer stands in `Sec-WebSocket-Extensions`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("permessage-deflate; server_no_context_takeover")?;
        if !self.keeps {
            f.write_str("; client_no_context_takeover")?;
        }
        if let Some(bits) = self.ours {
            write!(f, "; server_max_window_bits={bits}")?;
        }
        if let Some(bits) = self.theirs {
            write!(f, "; client_max_window_bits={bits}")?;
        }
        Ok(())
    }
}

/// 4 KiB: enough for the messages that browsers send, and little for thousands of sessions.
const SMALL: u8 = 12;

/// 32 KiB.
pub(super) const LARGEST: u8 = 15;
