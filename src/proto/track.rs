//! Tracks the frame boundaries in one direction of a session and checks whether frames may pass.
//!
//! The tracker reads frame headers and control frames, never the payload of a data frame, and keeps no bytes: the
//! caller passes bytes that were not consumed again, followed by more. Each idle session holds two trackers, so they
//! are small.

use super::frame::{FrameHeader, Opcode, RSV1};

mod control;
mod violation;

pub use control::ControlPayload;
pub use violation::Violation;

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
    /// An extension we don't know: any bit on any data frame.
    Any,
}

/// Bounds on frames and messages, in bytes unless stated otherwise; the maximum value means no bound.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Bounds {
    /// Payload bytes of one data frame.
    pub max_frame: u64,
    /// Payload bytes of all the frames of one message, as on the wire.
    pub max_message: u64,
    /// Data frames of one message.
    pub max_fragments: u32,
}

impl Bounds {
    /// The same without those on single frames.
    pub fn from_messages(self) -> Self {
        Bounds {
            max_frame: u64::MAX,
            max_fragments: u32::MAX,
            ..self
        }
    }
}

/// Counts of relayed frames, as written to the access log.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct FrameCounts {
    /// Data frames begun, and whole control frames.
    pub frames: u64,
    /// Data messages begun.
    pub messages: u64,
    /// Bytes, headers included.
    pub bytes: u64,
}

/// Follows one direction.
#[derive(Debug)]
pub struct FrameTracker {
    /// Payload bytes of the current data frame that are still to come.
    remaining: u64,
    /// Payload bytes that the frames of the current message have announced.
    message: u64,
    /// Data frames of the current message so far.
    fragments: u32,
    counts: FrameCounts,
    sender: Role,
    reserved: RsvBits,
    in_message: bool,
    closed: bool,
    failed: Option<Violation>,
}

/// Result of one call.
#[derive(Debug)]
pub struct Progress {
    /// Number of bytes at the front that may be relayed verbatim (data frames, whole or in part).
    pub pass: usize,
    /// A whole control frame that stands right behind them, unmasked. The tracker is past it already. Boxed: it is
    /// large and rare, and all else comes back in registers.
    pub control: Option<Box<ControlPayload>>,
}

// === impl FrameTracker ===

impl FrameTracker {
    /// A tracker at the start of a stream.
    pub fn new(sender: Role, reserved: RsvBits) -> Self {
        FrameTracker {
            remaining: 0,
            message: 0,
            fragments: 0,
            counts: FrameCounts::default(),
            sender,
            reserved,
            in_message: false,
            closed: false,
            failed: None,
        }
    }

    /// Walks over `bytes`, stopping behind the first control frame, or (with `stop_at_boundary`) at the first frame
    /// boundary after at least one byte.
    ///
    /// The caller relays [`Progress::pass`] bytes, handles [`Progress::control`], skips both, and calls again with the
    /// rest. When nothing was taken, more bytes are needed: an incomplete header or control frame (at most 130 bytes)
    /// stays with the caller.
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
                Ok(Some(ByteClass::Data(header))) => {
                    let payload = rest.get(header.len..).unwrap_or_default();
                    self.begin_frame(&header);
                    pass += header.len + self.skip_payload(payload);
                }
                Ok(Some(ByteClass::Control(frame))) => {
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
                // What precedes the bad frame goes first; the next call meets it again.
                Err(_) => break,
            }
        }
        self.counts.bytes += pass as u64;
        Ok(Progress { pass, control })
    }

    /// Whether what has passed so far ends with a whole frame.
    pub fn at_boundary(&self) -> bool {
        self.remaining == 0
    }

    /// Payload bytes of the current frame that are still to come.
    pub fn remaining(&self) -> u64 {
        self.remaining
    }

    /// Whether a fragmented message is open (RFC 6455 §5.4).
    pub fn in_message(&self) -> bool {
        self.in_message
    }

    /// Totals.
    pub fn counts(&self) -> FrameCounts {
        self.counts
    }

    /// Takes what `bytes` has of the current frame's payload; returns how much that is.
    #[inline]
    fn skip_payload(&mut self, bytes: &[u8]) -> usize {
        let here = usize::try_from(self.remaining)
            .unwrap_or(usize::MAX)
            .min(bytes.len());
        self.remaining -= here as u64;
        here
    }

    /// The frame at the front of `bytes`, if it may pass; changes nothing. Bytes are judged in their order, so that the
    /// verdict on a frame with several faults does not depend on how it was cut.
    #[inline]
    fn next_frame(&self, bytes: &[u8], bounds: &Bounds) -> Result<Option<ByteClass>, Violation> {
        let Some(&first) = bytes.first() else {
            return Ok(None);
        };
        let opcode = self.check_first_byte(first)?;
        if let Some(&second) = bytes.get(1) {
            // RFC 6455 §5.1: a client masks every frame, a server none.
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
            return Ok(ControlPayload::read(&header, bytes)?.map(ByteClass::Control));
        }
        if header.payload_len > bounds.max_frame {
            return Err(Violation::FrameTooBig);
        }
        if self.announced(&header) > bounds.max_message {
            return Err(Violation::MessageTooBig);
        }
        if self.fragment(&header) > bounds.max_fragments {
            return Err(Violation::TooManyFragments);
        }
        Ok(Some(ByteClass::Data(header)))
    }

    #[inline]
    fn check_first_byte(&self, first: u8) -> Result<Opcode, Violation> {
        // RFC 6455 §5.5.1: after a Close its sender must send nothing more.
        if self.closed {
            return Err(Violation::AfterClose);
        }
        let opcode = Opcode::from_first_byte(first)?;
        let starts = match opcode {
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
            // RFC 7692 §6: not on control frames, nor on a message's later frames.
            RsvBits::Deflate if starts => RSV1,
            RsvBits::Deflate => 0,
            RsvBits::Any => 0b111,
        };
        if (first >> 4) & 0b111 & !allowed != 0 {
            return Err(Violation::ReservedBits);
        }
        Ok(opcode)
    }

    /// Payload bytes of the current message, `header`'s frame included.
    #[inline]
    fn announced(&self, header: &FrameHeader) -> u64 {
        match header.opcode {
            // Without a bound, 2^63 - 1 bytes a frame may be announced again and again.
            Opcode::Continuation => self.message.saturating_add(header.payload_len),
            _ => header.payload_len,
        }
    }

    /// Which frame of its message `header`'s is, from 1.
    #[inline]
    fn fragment(&self, header: &FrameHeader) -> u32 {
        match header.opcode {
            Opcode::Continuation => self.fragments.saturating_add(1),
            _ => 1,
        }
    }

    /// Steps behind the header of a data frame.
    #[inline]
    fn begin_frame(&mut self, header: &FrameHeader) {
        self.message = self.announced(header);
        self.fragments = self.fragment(header);
        self.counts.frames += 1;
        self.counts.messages += u64::from(header.opcode != Opcode::Continuation);
        self.in_message = !header.fin;
        self.remaining = header.payload_len;
    }
}

/// A frame that may pass.
enum ByteClass {
    Data(FrameHeader),
    Control(Box<ControlPayload>),
}

#[cfg(test)]
mod tests;
