//! Violations of RFC 6455 or of a limit, with their words and close codes.

use thiserror::Error;

use super::super::frame::BadHeader;

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
    /// A frame after a Close (RFC 6455 §5.5.1).
    #[error("a frame follows the close frame")]
    AfterClose,
    /// A message marked as compressed that cannot be inflated (RFC 7692 §7.2.2).
    #[error("a compressed message cannot be inflated")]
    BadDeflate,
    /// More than [`Bounds::max_frame`](super::Bounds::max_frame).
    #[error("a frame is larger than max_frame")]
    FrameTooBig,
    /// More than [`Bounds::max_message`](super::Bounds::max_message).
    #[error("a message is larger than max_message")]
    MessageTooBig,
    /// More than [`Bounds::max_fragments`](super::Bounds::max_fragments).
    #[error("a message has more than max_fragments frames")]
    TooManyFragments,
}

// === impl Violation ===

impl Violation {
    /// Returns the close code for the violating peer: 1009 for a size bound, 1008 for another bound, 1007 for a payload
    /// that does not match its type, otherwise 1002 (RFC 6455 §7.4.1).
    pub fn close_code(self) -> u16 {
        match self {
            Violation::FrameTooBig | Violation::MessageTooBig => 1009,
            Violation::TooManyFragments => 1008,
            Violation::BadDeflate => 1007,
            _ => 1002,
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
            Violation::AfterClose => "after-close",
            Violation::BadDeflate => "bad-deflate",
            Violation::FrameTooBig => "frame-too-big",
            Violation::MessageTooBig => "message-too-big",
            Violation::TooManyFragments => "too-many-fragments",
        }
    }
}
