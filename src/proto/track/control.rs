//! A control frame that has come whole.

use super::super::frame::{
    CONTROL_PAYLOAD_MAX, FrameHeader, Opcode, apply_mask, close_code_allowed,
};
use super::Violation;

/// A whole control frame.
#[derive(Debug, Clone, Copy)]
pub struct ControlPayload {
    /// Close, Ping or Pong.
    pub opcode: Opcode,
    /// Bytes of the whole frame on the wire.
    pub len: usize,
    payload: [u8; CONTROL_PAYLOAD_MAX],
    payload_len: u8,
}

// === impl ControlPayload ===

impl ControlPayload {
    /// The unmasked payload, at most 125 bytes.
    pub fn payload(&self) -> &[u8] {
        self.payload
            .get(..usize::from(self.payload_len))
            .unwrap_or_default()
    }

    /// A Close's status code, if it carries one (RFC 6455 §7.1.5).
    pub fn close_code(&self) -> Option<u16> {
        match (self.opcode, self.payload()) {
            (Opcode::Close, [high, low, ..]) => Some(u16::from_be_bytes([*high, *low])),
            _ => None,
        }
    }

    /// The control frame of `header` at the front of `bytes`, once it is whole.
    #[cold]
    pub(super) fn read(
        header: &FrameHeader,
        bytes: &[u8],
    ) -> Result<Option<Box<ControlPayload>>, Violation> {
        // Header::parse has refused more than 125 bytes.
        let payload_len = header.payload_len as u8;
        let len = header.len + usize::from(payload_len);
        let Some(wire) = bytes.get(header.len..len) else {
            return Ok(None);
        };
        let mut payload = [0; CONTROL_PAYLOAD_MAX];
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
