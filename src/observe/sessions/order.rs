//! What a session can be ordered: to close.

use crate::proto::frame::close_code_allowed;
use thiserror::Error;

/// How a session is to close. The backend is told 1001 in any case.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CloseOrder {
    /// The code that the client is told.
    pub code: u16,
    /// The reason beside it; "" for none.
    pub reason: Box<str>,
    /// An operator picked this session; otherwise a drain or a stop did.
    pub by_operator: bool,
}

/// Why a Close cannot say that.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
pub enum BadCloseOrder {
    /// RFC 6455 §7.4.
    #[error(
        "{0} is no code that a server's Close may carry (RFC 6455 §7.4): use 1000, 1001, 1008, 1011 to 1013, or one of 3000 to 4999"
    )]
    Code(u16),
    /// RFC 6455 §5.5: two of a control frame's 125 bytes are the code.
    #[error("the reason has {0} bytes: 123 fit into a Close")]
    Reason(usize),
}

// === impl CloseOrder ===

impl CloseOrder {
    /// A drain's or a stop's, whose code the configuration has checked.
    pub fn internal(code: u16) -> CloseOrder {
        CloseOrder {
            code,
            reason: "".into(),
            by_operator: false,
        }
    }

    /// An operator's order.
    ///
    /// # Errors
    /// If no Close of a server may say that.
    pub fn from_operator(code: u16, reason: &str) -> Result<CloseOrder, BadCloseOrder> {
        // RFC 6455 §7.4.1: 1010 is a client's, who has missed an extension.
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

const MAX_REASON_LEN: usize = 123;
