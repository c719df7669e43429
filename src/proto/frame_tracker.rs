//! Tracks the frame boundaries in one direction of a session and validates frames.
//!
//! The tracker reads frame headers and control frames, never the payload of a data frame, and keeps no bytes: the
//! caller passes bytes that were not consumed again, followed by more. Each idle session holds two trackers, so they
//! are small.

use crate::proto::frame::{
    self, BadHeader, FrameHeader, MAX_CONTROL_PAYLOAD_LEN, Opcode, RSV1, apply_mask,
    close_code_allowed,
};
use thiserror::Error;

/// Which side sent the bytes; decides whether frames must be masked (RFC 6455 §5.1).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Role {
    /// Frames must be masked.
    Client,
    /// Frames must not be masked.
    Server,
}

/// Which reserved bits the negotiated extensions allow.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum RsvBits {
    /// No extension: all must be 0 (RFC 6455 §5.2).
    #[default]
    None,
    /// permessage-deflate: RSV1 on the first frame of a data message (RFC 7692 §6).
    Deflate,
    /// An unknown extension: any bit on any data frame.
    Any,
}

/// Bounds on frames and messages, in bytes unless stated otherwise; the maximum value means no bound.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Bounds {
    /// Payload bytes of one data frame.
    pub max_frame: u64,
    /// Payload bytes of all frames of one message, as on the wire.
    pub max_message: u64,
    /// Data frames of one message.
    pub max_fragments: u32,
}

/// Counts of relayed frames, as written to the access log.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct FrameCounts {
    /// Data frames that have begun, and whole control frames.
    pub frames: u64,
    /// Data messages that have begun.
    pub messages: u64,
    /// Bytes, headers included.
    pub bytes: u64,
}

/// State of one direction.
#[derive(Debug)]
pub struct FrameTracker {
    /// Payload bytes of the current data frame that have not arrived yet.
    remaining: u64,
    /// Payload bytes of the current message, according to the headers of its frames so far.
    message_len: u64,
    /// Data frames of the current message so far.
    fragments: u32,
    counts: FrameCounts,
    sender: Role,
    reserved: RsvBits,
    in_message: bool,
    closed: bool,
    failed: Option<Violation>,
}

/// Result of one call of [`FrameTracker::advance`].
#[derive(Debug)]
pub struct Progress {
    /// Number of bytes at the front that may be relayed verbatim (data frames, whole or in part).
    pub pass: usize,
    /// A whole control frame directly after them, unmasked; the tracker has consumed it. Boxed: it is large and rare,
    /// and the rest is returned in registers.
    pub control: Option<Box<ControlPayload>>,
}

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

/// Why a frame is invalid.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
pub enum Violation {
    /// The header is invalid, regardless of its sender.
    #[error(transparent)]
    Header(#[from] BadHeader),
    /// A reserved bit that no negotiated extension defines.
    #[error("a reserved bit is set that was not negotiated")]
    ReservedBits,
    /// A client's frame without a mask (RFC 6455 §5.1).
    #[error("a frame from the client is not masked")]
    Unmasked,
    /// A server's frame with a mask (RFC 6455 §5.1).
    #[error("a frame from the server is masked")]
    Masked,
    /// A continuation without an open message (RFC 6455 §5.4).
    #[error("a continuation frame stands outside a message")]
    UnexpectedContinuation,
    /// A new message before the last one has ended (RFC 6455 §5.4).
    #[error("a message begins inside another one")]
    InterruptedMessage,
    /// A Close with one byte, which cannot be a code (RFC 6455 §5.5.1).
    #[error("a close frame's payload is one byte")]
    ShortClose,
    /// A Close with a code that must not be sent (RFC 6455 §7.4).
    #[error("a close frame carries a code that may not be sent")]
    BadCloseCode,
    /// A Close whose reason is not UTF-8 (RFC 6455 §5.5.1, §8.1).
    #[error("a close frame's reason is not valid UTF-8")]
    BadCloseReason,
    /// A frame after a Close (RFC 6455 §5.5.1).
    #[error("a frame follows the close frame")]
    AfterClose,
    /// A message marked as compressed that cannot be inflated (RFC 7692 §7.2.2).
    #[error("a compressed message cannot be inflated")]
    BadDeflate,
    /// More than [`Bounds::max_frame`].
    #[error("a frame is larger than max_frame")]
    FrameTooBig,
    /// More than [`Bounds::max_message`].
    #[error("a message is larger than max_message")]
    MessageTooBig,
    /// More than [`Bounds::max_fragments`].
    #[error("a message has more than max_fragments frames")]
    TooManyFragments,
}

/// A valid frame: the header of a data frame, or a whole control frame.
enum NextFrame {
    Data(FrameHeader),
    Control(Box<ControlPayload>),
}

// === impl Bounds ===

impl Bounds {
    /// Returns the bounds without those on single frames: only the bound on messages.
    pub fn without_frame_bounds(self) -> Self {
        Bounds {
            max_frame: u64::MAX,
            max_fragments: u32::MAX,
            ..self
        }
    }
}

// === impl FrameTracker ===

impl FrameTracker {
    /// Creates a tracker for the start of a stream.
    pub fn new(sender: Role, reserved: RsvBits) -> Self {
        FrameTracker {
            remaining: 0,
            message_len: 0,
            fragments: 0,
            counts: FrameCounts::default(),
            sender,
            reserved,
            in_message: false,
            closed: false,
            failed: None,
        }
    }

    /// Processes `bytes` up to the end of the first control frame or, with `stop_at_boundary`, up to the first frame
    /// boundary after at least one byte.
    ///
    /// The caller relays [`Progress::pass`] bytes, handles [`Progress::control`], skips both, and calls again with the
    /// rest. If nothing was consumed, more bytes are needed: the caller keeps an incomplete header or control frame (at
    /// most 130 bytes).
    ///
    /// # Errors
    /// Returns a violation only if no valid bytes precede the bad frame: those are returned as `Ok` first. Once a
    /// violation is returned, every further call returns it.
    pub fn advance(
        &mut self,
        bytes: &[u8],
        bounds: &Bounds,
        stop_at_boundary: bool,
    ) -> Result<Progress, Violation> {
        if let Some(violation) = self.failed {
            return Err(violation);
        }
        let mut pass = self.skip_payload(bytes);
        let mut control = None;
        while !(stop_at_boundary && pass > 0) {
            let rest = bytes.get(pass..).unwrap_or_default();
            match self.next_frame(rest, bounds) {
                Ok(Some(NextFrame::Data(header))) => {
                    let payload = rest.get(header.len..).unwrap_or_default();
                    self.begin_frame(&header);
                    pass += header.len + self.skip_payload(payload);
                }
                Ok(Some(NextFrame::Control(frame))) => {
                    self.closed = frame.opcode == Opcode::Close;
                    self.counts.frames += 1;
                    self.counts.bytes += frame.len as u64;
                    control = Some(frame);
                    break;
                }
                Ok(None) => break,
                Err(violation) if pass == 0 => {
                    self.failed = Some(violation);
                    return Err(violation);
                }
                // The bytes before the bad frame are returned first; the next call finds it again.
                Err(_) => break,
            }
        }
        self.counts.bytes += pass as u64;
        Ok(Progress { pass, control })
    }

    /// Withdraws the violation that the last call of [`FrameTracker::advance`] returned: the caller has recognised the
    /// frame, or needs more bytes to do so. `accepted_len` is the length of the recognised frame on the wire, which is
    /// counted and must be skipped; 0 if the frame is incomplete.
    pub fn withdraw_violation(&mut self, accepted_len: usize) {
        self.failed = None;
        self.counts.frames += u64::from(accepted_len > 0);
        self.counts.bytes += accepted_len as u64;
    }

    /// Returns whether the bytes so far end at a frame boundary.
    pub fn at_boundary(&self) -> bool {
        self.remaining == 0
    }

    /// Returns the number of payload bytes of the current frame that have not arrived yet.
    pub fn remaining(&self) -> u64 {
        self.remaining
    }

    /// Returns whether a fragmented message is open (RFC 6455 §5.4).
    pub fn in_message(&self) -> bool {
        self.in_message
    }

    /// Returns the counts of the frames so far.
    pub fn counts(&self) -> FrameCounts {
        self.counts
    }

    /// Consumes payload of the current frame at the front of `bytes`; returns how many bytes.
    #[inline]
    fn skip_payload(&mut self, bytes: &[u8]) -> usize {
        let here = usize::try_from(self.remaining)
            .unwrap_or(usize::MAX)
            .min(bytes.len());
        self.remaining -= here as u64;
        here
    }

    /// Returns the frame at the front of `bytes` if it is valid; changes no state. Bytes are checked in order, so that
    /// the result for a frame with several violations does not depend on how the stream is split.
    #[inline]
    fn next_frame(&self, bytes: &[u8], bounds: &Bounds) -> Result<Option<NextFrame>, Violation> {
        let Some(&first) = bytes.first() else {
            return Ok(None);
        };
        let opcode = self.check_first_byte(first)?;
        if let Some(&second) = bytes.get(1) {
            // RFC 6455 §5.1: a client masks every frame, a server masks none.
            match (self.sender, second & 0x80 != 0) {
                (Role::Client, false) => return Err(Violation::Unmasked),
                (Role::Server, true) => return Err(Violation::Masked),
                (Role::Client, true) | (Role::Server, false) => {}
            }
        }
        let Some(header) = FrameHeader::parse_after_opcode(opcode, bytes)? else {
            return Ok(None);
        };
        if opcode.is_control() {
            return Ok(ControlPayload::read(&header, bytes)?.map(NextFrame::Control));
        }
        if header.payload_len > bounds.max_frame {
            return Err(Violation::FrameTooBig);
        }
        if self.message_len_with(&header) > bounds.max_message {
            return Err(Violation::MessageTooBig);
        }
        if self.fragment_number(&header) > bounds.max_fragments {
            return Err(Violation::TooManyFragments);
        }
        Ok(Some(NextFrame::Data(header)))
    }

    #[inline]
    fn check_first_byte(&self, first: u8) -> Result<Opcode, Violation> {
        // RFC 6455 §5.5.1: no frame follows a Close.
        if self.closed {
            return Err(Violation::AfterClose);
        }
        let opcode = Opcode::from_first_byte(first)?;
        let begins_message = match opcode {
            Opcode::Close | Opcode::Ping | Opcode::Pong => false,
            // RFC 6455 §5.4: fragments of two messages must not be interleaved.
            Opcode::Text | Opcode::Binary if self.in_message => {
                return Err(Violation::InterruptedMessage);
            }
            Opcode::Text | Opcode::Binary => true,
            Opcode::Continuation if self.in_message => false,
            Opcode::Continuation => return Err(Violation::UnexpectedContinuation),
        };
        let allowed = match self.reserved {
            _ if opcode.is_control() => 0,
            RsvBits::None => 0,
            // RFC 7692 §6: RSV1 is set only on the first frame of a message.
            RsvBits::Deflate if begins_message => RSV1,
            RsvBits::Deflate => 0,
            RsvBits::Any => 0b111,
        };
        if (first >> 4) & 0b111 & !allowed != 0 {
            return Err(Violation::ReservedBits);
        }
        Ok(opcode)
    }

    /// Returns the number of payload bytes of the current message, including the frame of `header`.
    #[inline]
    fn message_len_with(&self, header: &FrameHeader) -> u64 {
        match header.opcode {
            // Without a bound, each header may declare up to 2^63 - 1 bytes.
            Opcode::Continuation => self.message_len.saturating_add(header.payload_len),
            _ => header.payload_len,
        }
    }

    /// Returns the position of the frame of `header` in its message, from 1.
    #[inline]
    fn fragment_number(&self, header: &FrameHeader) -> u32 {
        match header.opcode {
            Opcode::Continuation => self.fragments.saturating_add(1),
            _ => 1,
        }
    }

    /// Records the header of a data frame.
    #[inline]
    fn begin_frame(&mut self, header: &FrameHeader) {
        self.message_len = self.message_len_with(header);
        self.fragments = self.fragment_number(header);
        self.counts.frames += 1;
        self.counts.messages += u64::from(header.opcode != Opcode::Continuation);
        self.in_message = !header.fin;
        self.remaining = header.payload_len;
    }
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

    /// Returns the reason of a Close, which is UTF-8 in a valid one; empty if there is none.
    fn close_reason(&self) -> &[u8] {
        self.payload().get(2..).unwrap_or_default()
    }

    /// Parses the control frame with this `header` at the front of `bytes`; `Ok(None)` if it is incomplete.
    #[cold]
    fn read(header: &FrameHeader, bytes: &[u8]) -> Result<Option<Box<ControlPayload>>, Violation> {
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
                Some(_) if std::str::from_utf8(control.close_reason()).is_err() => {
                    return Err(Violation::BadCloseReason);
                }
                Some(_) | None => {}
            }
        }
        Ok(Some(Box::new(control)))
    }
}

// === impl Violation ===

impl Violation {
    /// Returns the close code for the violating peer: 1009 for a size bound, 1008 for another bound, 1007 for a payload
    /// that does not match its type, otherwise 1002 (RFC 6455 §7.4.1).
    pub fn close_code(self) -> u16 {
        match self {
            Violation::FrameTooBig | Violation::MessageTooBig => frame::MESSAGE_TOO_BIG,
            Violation::TooManyFragments => frame::POLICY_VIOLATION,
            Violation::BadDeflate | Violation::BadCloseReason => frame::INVALID_PAYLOAD,
            _ => frame::PROTOCOL_ERROR,
        }
    }

    /// Returns a word of a closed set for logs and metric labels.
    pub fn as_str(self) -> &'static str {
        match self {
            Violation::Header(BadHeader::ReservedOpcode) => "reserved-opcode",
            Violation::Header(BadHeader::FragmentedControl) => "fragmented-control",
            Violation::Header(BadHeader::LongControl) => "long-control",
            Violation::Header(BadHeader::NonMinimalLength) => "non-minimal-length",
            Violation::Header(BadHeader::LengthOverflow) => "length-overflow",
            Violation::ReservedBits => "reserved-bits",
            Violation::Unmasked => "unmasked",
            Violation::Masked => "masked",
            Violation::UnexpectedContinuation => "lone-continuation",
            Violation::InterruptedMessage => "interrupted-message",
            Violation::ShortClose => "short-close",
            Violation::BadCloseCode => "bad-close-code",
            Violation::BadCloseReason => "bad-close-reason",
            Violation::AfterClose => "after-close",
            Violation::BadDeflate => "bad-deflate",
            Violation::FrameTooBig => "frame-too-big",
            Violation::MessageTooBig => "message-too-big",
            Violation::TooManyFragments => "too-many-fragments",
        }
    }
}

#[cfg(test)]
mod tests;
