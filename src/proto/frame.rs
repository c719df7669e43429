//! The frame header of RFC 6455 §5.2, and whole control frames of our own.
//!
//! Only rules that concern a single frame are checked here. Rules that depend on earlier frames, on the sender or on
//! the negotiated extensions belong to [`frame_tracker`](crate::proto::frame_tracker).

use std::fmt;
use thiserror::Error;

/// The opcode of a frame (RFC 6455 §5.2), without the reserved ones.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Opcode {
    /// 0x0: continues a fragmented message.
    Continuation,
    /// 0x1: begins a message of UTF-8 text.
    Text,
    /// 0x2: begins a message of bytes.
    Binary,
    /// 0x8: the last frame of this direction.
    Close,
    /// 0x9: requests a Pong.
    Ping,
    /// 0xA: answers a Ping, or is unsolicited.
    Pong,
}

/// The header in front of a frame's payload.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct FrameHeader {
    /// Whether it is the last frame of its message.
    pub fin: bool,
    /// The reserved bits: [`RSV1`], 0b010 for RSV2, 0b001 for RSV3.
    pub rsv: u8,
    /// The kind of frame.
    pub opcode: Opcode,
    /// The masking key, if the payload is masked (RFC 6455 §5.3).
    pub mask: Option<[u8; 4]>,
    /// Length of the payload in bytes, at most 2^63 - 1.
    pub payload_len: u64,
    /// Length of the header in bytes, 2 to 14.
    pub len: usize,
}

/// A control frame of our own: at most 2 + 4 + 125 bytes, stored inline.
#[derive(Clone, Copy)]
pub struct ControlFrame {
    bytes: [u8; MAX_CONTROL_FRAME_LEN],
    len: u8,
}

/// Why the bytes are not a frame header, regardless of their sender.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
pub enum BadHeader {
    /// 0x3 to 0x7, or 0xB to 0xF (RFC 6455 §5.2).
    #[error("the frame's opcode is reserved")]
    ReservedOpcode,
    /// A control frame without FIN (RFC 6455 §5.5).
    #[error("a control frame is fragmented")]
    FragmentedControl,
    /// A control frame of more than 125 bytes (RFC 6455 §5.5).
    #[error("a control frame has more than 125 bytes of payload")]
    LongControl,
    /// A length in a longer form than necessary (RFC 6455 §5.2).
    #[error("the payload's length is not written in its shortest form")]
    NonMinimalLength,
    /// A 64-bit length with its top bit set (RFC 6455 §5.2).
    #[error("the payload's length has its top bit set")]
    LengthOverflow,
}

// === impl Opcode ===

impl Opcode {
    /// Parses the opcode in the first byte of a frame.
    ///
    /// # Errors
    /// Returns an error for a reserved opcode and for a control frame without FIN.
    #[inline]
    pub fn from_first_byte(first: u8) -> Result<Self, BadHeader> {
        match first & 0x0F {
            0x0 => Ok(Opcode::Continuation),
            0x1 => Ok(Opcode::Text),
            0x2 => Ok(Opcode::Binary),
            // RFC 6455 §5.5: control frames must not be fragmented.
            0x8..=0xA if first & FIN == 0 => Err(BadHeader::FragmentedControl),
            0x8 => Ok(Opcode::Close),
            0x9 => Ok(Opcode::Ping),
            0xA => Ok(Opcode::Pong),
            _ => Err(BadHeader::ReservedOpcode),
        }
    }

    /// Returns whether it is Close, Ping or Pong (RFC 6455 §5.5).
    #[inline]
    pub fn is_control(self) -> bool {
        matches!(self, Opcode::Close | Opcode::Ping | Opcode::Pong)
    }

    fn bits(self) -> u8 {
        match self {
            Opcode::Continuation => 0x0,
            Opcode::Text => 0x1,
            Opcode::Binary => 0x2,
            Opcode::Close => 0x8,
            Opcode::Ping => 0x9,
            Opcode::Pong => 0xA,
        }
    }
}

// === impl FrameHeader ===

impl FrameHeader {
    /// Parses the header at the front of `bytes`. `Ok(None)` means that more bytes are needed. Errors are returned
    /// early: a bad first byte without the second, a bad length as soon as it is complete.
    #[inline]
    pub fn parse(bytes: &[u8]) -> Result<Option<FrameHeader>, BadHeader> {
        match bytes.first() {
            Some(&first) => FrameHeader::parse_after_opcode(Opcode::from_first_byte(first)?, bytes),
            None => Ok(None),
        }
    }

    /// Parses like [`FrameHeader::parse`] if the caller has parsed the first byte already.
    #[inline]
    pub fn parse_after_opcode(
        opcode: Opcode,
        bytes: &[u8],
    ) -> Result<Option<FrameHeader>, BadHeader> {
        let [first, second, rest @ ..] = bytes else {
            return Ok(None);
        };
        let (first, second) = (*first, *second);
        let short = second & !MASKED;
        // RFC 6455 §5.5: control frames must have a payload length of 125 bytes or less.
        if opcode.is_control() && short > 125 {
            return Err(BadHeader::LongControl);
        }
        let Some((payload_len, rest)) = extended_length(short, rest)? else {
            return Ok(None);
        };
        let (mask, rest) = if second & MASKED == 0 {
            (None, rest)
        } else {
            match rest.split_first_chunk::<4>() {
                Some((key, rest)) => (Some(*key), rest),
                None => return Ok(None),
            }
        };
        Ok(Some(FrameHeader {
            fin: first & FIN != 0,
            rsv: (first >> 4) & 0b111,
            opcode,
            mask,
            payload_len,
            len: bytes.len() - rest.len(),
        }))
    }
}

impl FrameHeader {
    /// Writes the header; [`FrameHeader::len`] is ignored.
    pub fn write(&self, out: &mut Vec<u8>) {
        let fin = if self.fin { FIN } else { 0 };
        out.push(fin | self.rsv << 4 | self.opcode.bits());
        let masked = if self.mask.is_some() { MASKED } else { 0 };
        match self.payload_len {
            len @ 0..=125 => out.push(masked | len as u8),
            len @ 126..=0xFFFF => {
                out.push(masked | 126);
                out.extend_from_slice(&(len as u16).to_be_bytes());
            }
            len => {
                out.push(masked | 127);
                out.extend_from_slice(&len.to_be_bytes());
            }
        }
        out.extend_from_slice(self.mask.as_ref().map_or(&[], |key| &key[..]));
    }
}

/// Returns the payload length and the bytes after it (RFC 6455 §5.2: network byte order, minimal number of bytes).
#[inline]
fn extended_length(short: u8, rest: &[u8]) -> Result<Option<(u64, &[u8])>, BadHeader> {
    match short {
        126 => {
            let Some((long, rest)) = rest.split_first_chunk::<2>() else {
                return Ok(None);
            };
            match u64::from(u16::from_be_bytes(*long)) {
                0..=125 => Err(BadHeader::NonMinimalLength),
                len => Ok(Some((len, rest))),
            }
        }
        127 => {
            let Some((long, rest)) = rest.split_first_chunk::<8>() else {
                return Ok(None);
            };
            match u64::from_be_bytes(*long) {
                0..=0xFFFF => Err(BadHeader::NonMinimalLength),
                len if len >> 63 == 1 => Err(BadHeader::LengthOverflow),
                len => Ok(Some((len, rest))),
            }
        }
        len => Ok(Some((u64::from(len), rest))),
    }
}

// === impl ControlFrame ===

impl ControlFrame {
    /// Builds a Close with `code` and `reason`, which is truncated at a character boundary to 123 bytes.
    ///
    /// A code that must not be sent ([`close_code_allowed`]; especially 1005, 1006 and 1015) gives a Close without a
    /// body: the receiver then reports 1005, "no status", instead of a protocol error.
    pub fn close(code: u16, reason: &str, mask: Option<[u8; 4]>) -> Self {
        if !close_code_allowed(code) {
            return Self::write(Opcode::Close, &[], &[], mask);
        }
        let end = reason.floor_char_boundary(MAX_CONTROL_PAYLOAD_LEN - 2);
        let reason = reason.get(..end).unwrap_or_default();
        Self::write(Opcode::Close, &code.to_be_bytes(), reason.as_bytes(), mask)
    }

    /// Builds a Ping; `payload` is truncated to 125 bytes.
    pub fn ping(payload: &[u8], mask: Option<[u8; 4]>) -> Self {
        let payload = payload.get(..MAX_CONTROL_PAYLOAD_LEN).unwrap_or(payload);
        Self::write(Opcode::Ping, &[], payload, mask)
    }

    /// Builds the Pong for a Ping with this payload, truncated to 125 bytes.
    pub fn pong(payload: &[u8], mask: Option<[u8; 4]>) -> Self {
        let payload = payload.get(..MAX_CONTROL_PAYLOAD_LEN).unwrap_or(payload);
        Self::write(Opcode::Pong, &[], payload, mask)
    }

    /// Returns the frame as sent on the wire.
    pub fn as_bytes(&self) -> &[u8] {
        self.bytes.get(..usize::from(self.len)).unwrap_or_default()
    }

    /// Builds a frame with the payload `head` and `tail`, at most 125 bytes together.
    fn write(opcode: Opcode, head: &[u8], tail: &[u8], mask: Option<[u8; 4]>) -> Self {
        let payload = head.iter().chain(tail);
        let start = if mask.is_some() { 6 } else { 2 };
        let mut bytes = [0; MAX_CONTROL_FRAME_LEN];
        let mut len = 0;
        for (to, from) in bytes.iter_mut().skip(start).zip(payload) {
            *to = *from;
            len += 1;
        }
        bytes[0] = FIN | opcode.bits();
        bytes[1] = len;
        if let Some(key) = mask {
            bytes[1] |= MASKED;
            bytes[2..6].copy_from_slice(&key);
            apply_mask(&mut bytes[6..], key);
        }
        ControlFrame {
            bytes,
            len: start as u8 + len,
        }
    }
}

impl fmt::Debug for ControlFrame {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "ControlFrame({:02x?})", self.as_bytes())
    }
}

/// Masks or unmasks a payload in place (RFC 6455 §5.3: the operation is the same).
pub fn apply_mask(payload: &mut [u8], key: [u8; 4]) {
    for (byte, key) in payload.iter_mut().zip(key.iter().cycle()) {
        *byte ^= key;
    }
}

/// Returns whether a Close frame may contain `code` (RFC 6455 §7.4 and the IANA registry). 1005, 1006 and 1015 must not
/// be sent; 1004 and 1016 to 2999 are not assigned.
pub fn close_code_allowed(code: u16) -> bool {
    matches!(code, 1000..=1003 | 1007..=1014 | 3000..=4999)
}

/// Going away (RFC 6455 §7.4.1).
pub const GOING_AWAY: u16 = 1001;

/// Protocol error (RFC 6455 §7.4.1).
pub const PROTOCOL_ERROR: u16 = 1002;

/// No status (RFC 6455 §7.4.1): never sent on the wire; passing it as the code produces a Close without a code.
pub const NO_STATUS: u16 = 1005;

/// Invalid payload data (RFC 6455 §7.4.1).
pub const INVALID_PAYLOAD: u16 = 1007;

/// Policy violation (RFC 6455 §7.4.1).
pub const POLICY_VIOLATION: u16 = 1008;

/// Message too big (RFC 6455 §7.4.1).
pub const MESSAGE_TOO_BIG: u16 = 1009;

/// The first reserved bit, as a value of [`FrameHeader::rsv`].
pub const RSV1: u8 = 0b100;

/// Maximum payload of a control frame (RFC 6455 §5.5).
pub const MAX_CONTROL_PAYLOAD_LEN: usize = 125;

/// Two bytes of header, masking key, payload.
const MAX_CONTROL_FRAME_LEN: usize = 2 + 4 + MAX_CONTROL_PAYLOAD_LEN;

const FIN: u8 = 0x80;

const MASKED: u8 = 0x80;

#[cfg(test)]
mod tests {
    use super::*;

    const KEY: [u8; 4] = [0x37, 0xfa, 0x21, 0x3d];

    /// RFC 6455 §5.7.
    #[test]
    fn examples_of_rfc_6455_parse() {
        let header = |bytes: &[u8]| FrameHeader::parse(bytes).unwrap().unwrap();
        let plain = FrameHeader {
            fin: true,
            rsv: 0,
            opcode: Opcode::Text,
            mask: None,
            payload_len: 5,
            len: 2,
        };
        assert_eq!(header(b"\x81\x05Hello"), plain);
        assert_eq!(
            header(b"\x81\x85\x37\xfa\x21\x3d\x7f\x9f\x4d\x51\x58"),
            FrameHeader {
                mask: Some(KEY),
                len: 6,
                ..plain
            }
        );
        assert_eq!(
            header(b"\x01\x03Hel"),
            FrameHeader {
                fin: false,
                payload_len: 3,
                ..plain
            }
        );
        assert_eq!(header(b"\x80\x02lo").opcode, Opcode::Continuation);
        assert_eq!(header(b"\x89\x05Hello").opcode, Opcode::Ping);
        let long = header(&[0x82, 0x7E, 0x01, 0x00]);
        assert_eq!((long.payload_len, long.len), (256, 4));
        let longer = header(&[0x82, 0x7F, 0, 0, 0, 0, 0, 1, 0, 0]);
        assert_eq!((longer.payload_len, longer.len), (65536, 10));
        assert_eq!(header(&[0xC1, 0]).rsv, RSV1);
    }

    #[test]
    fn bad_header_is_refused_at_the_first_bad_byte() {
        let table: &[(&[u8], BadHeader)] = &[
            (&[0x83], BadHeader::ReservedOpcode),
            (&[0x87], BadHeader::ReservedOpcode),
            (&[0x8B], BadHeader::ReservedOpcode),
            (&[0x0F], BadHeader::ReservedOpcode),
            (&[0x08], BadHeader::FragmentedControl),
            (&[0x09], BadHeader::FragmentedControl),
            (&[0x0A], BadHeader::FragmentedControl),
            (&[0x88, 126], BadHeader::LongControl),
            (&[0x89, 0x80 | 127], BadHeader::LongControl),
            (&[0x81, 126, 0, 125], BadHeader::NonMinimalLength),
            (&[0x81, 0x80 | 126, 0, 0], BadHeader::NonMinimalLength),
            (
                &[0x82, 127, 0, 0, 0, 0, 0, 0, 0xFF, 0xFF],
                BadHeader::NonMinimalLength,
            ),
            (
                &[0x82, 127, 0x80, 0, 0, 0, 0, 0, 0, 0],
                BadHeader::LengthOverflow,
            ),
        ];
        for (bytes, why) in table {
            for (len, _) in bytes.iter().enumerate() {
                assert_eq!(FrameHeader::parse(&bytes[..len]), Ok(None), "{bytes:02x?}");
            }
            assert_eq!(FrameHeader::parse(bytes), Err(*why), "{bytes:02x?}");
        }
    }

    #[test]
    fn incomplete_header_needs_more_bytes() {
        let whole = [
            0x82, 0xFF, 0x7F, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 1, 2, 3, 4,
        ];
        for len in 0..whole.len() {
            assert_eq!(FrameHeader::parse(&whole[..len]), Ok(None));
        }
        let header = FrameHeader::parse(&whole).unwrap().unwrap();
        assert_eq!(header.payload_len, u64::MAX >> 1);
        assert_eq!((header.len, header.mask), (14, Some([1, 2, 3, 4])));
    }

    #[test]
    fn control_frames_are_encoded() {
        assert_eq!(
            ControlFrame::close(1000, "bye", None).as_bytes(),
            b"\x88\x05\x03\xe8bye"
        );
        assert_eq!(
            ControlFrame::close(1001, "", Some([0; 4])).as_bytes(),
            b"\x88\x82\0\0\0\0\x03\xe9"
        );
        assert_eq!(ControlFrame::ping(b"", None).as_bytes(), b"\x89\0");
        // RFC 6455 §5.7, as a Ping instead of a text frame.
        assert_eq!(
            ControlFrame::ping(b"Hello", Some(KEY)).as_bytes(),
            b"\x89\x85\x37\xfa\x21\x3d\x7f\x9f\x4d\x51\x58"
        );
    }

    #[test]
    fn long_payload_of_a_control_frame_is_truncated() {
        assert_eq!(ControlFrame::ping(&[7; 200], None).as_bytes().len(), 127);
        assert_eq!(
            ControlFrame::ping(&[7; 125], Some(KEY)).as_bytes().len(),
            131
        );
        // 'é' takes two bytes: 62 of them are 124, one byte too many for 123.
        let close = ControlFrame::close(1008, &"é".repeat(70), None);
        assert_eq!(close.as_bytes().len(), 2 + 2 + 122);
        assert!(std::str::from_utf8(&close.as_bytes()[4..]).is_ok());
        assert_eq!(
            ControlFrame::close(1008, &"x".repeat(200), None)
                .as_bytes()
                .len(),
            2 + 125
        );
    }

    #[test]
    fn close_with_a_forbidden_code_has_no_body() {
        for code in [0, 999, 1004, 1005, 1006, 1015, 1016, 2999, 5000, u16::MAX] {
            assert!(!close_code_allowed(code), "{code}");
            assert_eq!(
                ControlFrame::close(code, "why", None).as_bytes(),
                b"\x88\0",
                "{code}"
            );
        }
        for code in [1000, 1003, 1007, 1011, 1014, 3000, 4999] {
            assert!(close_code_allowed(code), "{code}");
            assert_eq!(
                ControlFrame::close(code, "", None).as_bytes().len(),
                4,
                "{code}"
            );
        }
    }
}
