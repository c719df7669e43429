//! Errors of a handshake with the client or with a backend, and their words.

use http::StatusCode;
use thiserror::Error;

/// Why a client's opening handshake is refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
pub enum BadHandshake {
    /// An upgrade with a method other than GET.
    #[error("a WebSocket handshake must use GET")]
    WrongMethod,
    /// An upgrade in HTTP/1.0, which does not support it.
    #[error("a WebSocket handshake needs HTTP/1.1")]
    Http10,
    /// `Sec-WebSocket-Version` is absent, repeated or not 13.
    #[error("Sec-WebSocket-Version must be 13, once")]
    WrongVersion,
    /// No `Sec-WebSocket-Key`.
    #[error("Sec-WebSocket-Key is missing")]
    MissingKey,
    /// `Sec-WebSocket-Key` is repeated, or not 16 bytes in base64.
    #[error("Sec-WebSocket-Key must be 16 bytes in base64, once")]
    BadKey,
    /// `Sec-WebSocket-Protocol` is not a list of different tokens.
    #[error("Sec-WebSocket-Protocol must list different tokens")]
    BadSubprotocols,
    /// `Sec-WebSocket-Extensions` does not follow RFC 6455 §9.1.
    #[error("Sec-WebSocket-Extensions is malformed")]
    BadExtensions,
}

/// Why a backend's response does not complete the handshake.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
pub enum Bad101 {
    /// The status is not 101.
    #[error("the backend's answer is not a 101")]
    Status,
    /// The status line is not HTTP/1.1.
    #[error("the backend's 101 is not HTTP/1.1")]
    WrongVersion,
    /// `Upgrade` is not exactly `websocket`.
    #[error("the backend's 101 has no Upgrade: websocket")]
    Upgrade,
    /// `Connection` does not contain `upgrade`.
    #[error("the backend's 101 has no Connection: upgrade")]
    Connection,
    /// No `Sec-WebSocket-Accept`.
    #[error("the backend's 101 has no Sec-WebSocket-Accept")]
    MissingAccept,
    /// `Sec-WebSocket-Accept` is repeated or does not match the key.
    #[error("the backend's Sec-WebSocket-Accept does not answer the key")]
    WrongAccept,
    /// More than one `Sec-WebSocket-Protocol`.
    #[error("the backend's 101 has several Sec-WebSocket-Protocol headers")]
    RepeatedSubprotocol,
    /// A subprotocol that the client did not offer.
    #[error("the backend chose a subprotocol that the client did not offer")]
    UnofferedSubprotocol,
    /// `Sec-WebSocket-Extensions` does not follow RFC 6455 §9.1.
    #[error("the backend's Sec-WebSocket-Extensions is malformed")]
    BadExtensions,
    /// An extension that the client did not offer.
    #[error("the backend chose an extension that the client did not offer")]
    UnofferedExtension,
    /// The same extension twice.
    #[error("the backend chose an extension twice")]
    RepeatedExtension,
    /// Parameters that RFC 7692 §7.1 does not allow in a response.
    #[error("the backend's permessage-deflate parameters are wrong")]
    DeflateParameters,
}

// === impl BadHandshake ===

impl BadHandshake {
    /// Returns the status of the refusal.
    pub fn status(self) -> StatusCode {
        match self {
            BadHandshake::WrongMethod => StatusCode::METHOD_NOT_ALLOWED,
            BadHandshake::WrongVersion => StatusCode::UPGRADE_REQUIRED,
            _ => StatusCode::BAD_REQUEST,
        }
    }

    /// Returns a word of a closed set for logs and metric labels.
    pub fn as_str(self) -> &'static str {
        match self {
            BadHandshake::WrongMethod => "wrong-method",
            BadHandshake::Http10 => "http-1.0",
            BadHandshake::WrongVersion => "wrong-version",
            BadHandshake::MissingKey => "missing-key",
            BadHandshake::BadKey => "bad-key",
            BadHandshake::BadSubprotocols => "bad-subprotocols",
            BadHandshake::BadExtensions => "bad-extensions",
        }
    }
}

// === impl Bad101 ===

impl Bad101 {
    /// Returns a word of a closed set for logs and metric labels.
    pub fn as_str(self) -> &'static str {
        match self {
            Bad101::Status => "not-101",
            Bad101::WrongVersion => "wrong-version",
            Bad101::Upgrade => "bad-upgrade",
            Bad101::Connection => "bad-connection",
            Bad101::MissingAccept => "missing-accept",
            Bad101::WrongAccept => "wrong-accept",
            Bad101::RepeatedSubprotocol => "repeated-subprotocol",
            Bad101::UnofferedSubprotocol => "unoffered-subprotocol",
            Bad101::BadExtensions => "bad-extensions",
            Bad101::UnofferedExtension => "unoffered-extension",
            Bad101::RepeatedExtension => "repeated-extension",
            Bad101::DeflateParameters => "bad-deflate-parameters",
        }
    }
}
