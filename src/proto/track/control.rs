//! A complete control frame.

use super::super::frame::{
    FrameHeader, MAX_CONTROL_PAYLOAD_LEN, Opcode, apply_mask, close_code_allowed,
};
use super::Violation;

/// A complete control frame, unmasked.
#[derive(Debug, Clone, Copy)]
pub struct ControlPayload {
    /// Close, Ping or Pong.
    pub opcode: Opcode,
    /// Length of the frame on the wire, in bytes.
    pub len: usize,
    payload: [u8; MAX_CONTROL_PAYLOAD_LEN],
    payload_len: u8,
}

// === impl ControlPayload ===

impl ControlPayload {
    /// Returns the unmasked payload, at most 125 bytes.
    pub fn payload(&self) -> &[u8] {
        self.payload
            .get(..usize::from(self.payload_len))
            .unwrap_or_default()
    }

    /// Returns the status code of a Close, if there is one (RFC 6455 §7.1.5).
    pub fn close_code(&self) -> Option<u16> {
        match (self.opcode, self.payload()) {
            (Opcode::Close, [high, low, ..]) => Some(u16::from_be_bytes([*high, *low])),
            _ => None,
        }
    }

    /// Parses the control frame with this `header` at the front of `bytes`; `Ok(None)` if it is incomplete.
    #[cold]
    pub(super) fn read(
        header: &FrameHeader,
        bytes: &[u8],
    ) -> Result<Option<Box<ControlPayload>>, Violation> {
        // `FrameHeader::parse` refuses more than 125 bytes.
        let payload_len = header.payload_len as u8;
        let len = header.len + usize::from(payload_len);
        let Some(wire) = bytes.get(header.len..len) else {
            return Ok(None);
        };
        let mut payload = [0; MAX_CONTROL_PAYLOAD_LEN];
        if let Some(payload) = payload.get_mut(..wire.len()) {
            payload.copy_from_slice(wire);
            if let Some(key) = header.mask {
                apply_mask(payload, key);
            }
        }
        let control = ControlPayload {
            opcode: header.opcode,
            len,
            payload,
            payload_len,
        };
        if control.opcode == Opcode::Close {
            match control.close_code() {
                Some(code) if !close_code_allowed(code) => return Err(Violation::BadCloseCode),
                None if payload_len == 1 => return Err(Violation::ShortClose),
                Some(_) | None => {}
            }
        }
        Ok(Some(Box::new(control)))
    }
}
