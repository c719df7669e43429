//! Orders to a live session: to close.

use crate::proto::frame::close_code_allowed;
use thiserror::Error;

/// An order to close a session. The backend always gets 1001.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CloseOrder {
    /// The close code for the client.
    pub code: u16,
    /// The reason for the client; may be empty.
    pub reason: Box<str>,
    /// True for an order of an operator, false for one of Lockgate (drain, shutdown, limits).
    pub by_operator: bool,
}

/// An invalid code or reason of a close order.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
pub enum BadCloseOrder {
    /// A code that a server must not send (RFC 6455 §7.4).
    #[error(
        "{0} is not a close code that a server may send (RFC 6455 §7.4): use 1000, 1001, 1008, 1011 to 1013, or one of 3000 to 4999"
    )]
    Code(u16),
    /// A reason longer than 123 bytes: a control frame has 125, and the code takes two (RFC 6455 §5.5).
    #[error("the reason is {0} bytes long; a Close frame has room for 123")]
    Reason(usize),
}

// === impl CloseOrder ===

impl CloseOrder {
    /// Creates an order of Lockgate itself. The code comes from the configuration, which has validated it, or is a constant.
    pub fn internal(code: u16) -> CloseOrder {
        CloseOrder {
            code,
            reason: "".into(),
            by_operator: false,
        }
    }

    /// Creates an order of an operator.
    ///
    /// # Errors
    /// If a server must not send the code, or if the reason is too long.
    pub fn from_operator(code: u16, reason: &str) -> Result<CloseOrder, BadCloseOrder> {
        // RFC 6455 §7.4.1: only a client sends 1010, to report a missing extension.
        if !close_code_allowed(code) || code == 1010 {
            return Err(BadCloseOrder::Code(code));
        }
        if reason.len() > MAX_REASON_LEN {
            return Err(BadCloseOrder::Reason(reason.len()));
        }
        Ok(CloseOrder {
            code,
            reason: reason.into(),
            by_operator: true,
        })
    }
}

/// In bytes (RFC 6455 §5.5).
const MAX_REASON_LEN: usize = 123;
