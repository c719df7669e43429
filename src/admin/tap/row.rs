//! A frame as a line of JSON.

use crate::{
    observe::{InflateStatus, TappedFrame},
    proto::{frame::Opcode, track::Role},
};
use serde::Serialize;
use std::fmt::Write;

/// A frame as it appears in the output.
#[derive(Serialize)]
pub(super) struct FrameRow {
    at: String,
    id: String,
    client: String,
    route: String,
    from: &'static str,
    kind: &'static str,
    continues: bool,
    fin: bool,
    /// The payload length on the wire, in bytes.
    size: u64,
    compressed: bool,
    /// The inflated payload length in bytes, if the payload was inflated.
    inflated: Option<u64>,
    /// The payload refers to data relayed before the tap was attached; "?" replaces the missing bytes.
    gaps: bool,
    /// The status code of a Close frame.
    code: Option<u16>,
    /// The beginning of the payload if it is text; otherwise it is in `hex`.
    text: Option<String>,
    hex: Option<String>,
    /// The payload is longer than its part in this line.
    cut: bool,
}

// === impl FrameRow ===

impl FrameRow {
    pub(super) fn of(frame: &TappedFrame) -> FrameRow {
        let (code, head) = match (frame.kind, frame.head.as_slice()) {
            (Opcode::Close, [high, low, reason @ ..]) => {
                (Some(u16::from_be_bytes([*high, *low])), reason)
            }
            (_, head) => (None, head),
        };
        let is_text = matches!(frame.kind, Opcode::Text | Opcode::Close);
        let is_text = is_text && frame.deflate != InflateStatus::NotInflated;
        let (inflated, gaps) = match frame.deflate {
            InflateStatus::Inflated { size, whole } => (Some(size), !whole),
            InflateStatus::None | InflateStatus::NotInflated => (None, false),
        };
        FrameRow {
            at: humantime::format_rfc3339_millis(frame.at).to_string(),
            id: format!("{:016x}", frame.session.id),
            client: frame.session.client.to_string(),
            route: frame.session.route.to_string(),
            from: match frame.from {
                Role::Client => "client",
                Role::Server => "backend",
            },
            kind: match frame.kind {
                Opcode::Continuation => "continuation",
                Opcode::Text => "text",
                Opcode::Binary => "binary",
                Opcode::Close => "close",
                Opcode::Ping => "ping",
                Opcode::Pong => "pong",
            },
            continues: frame.continues,
            fin: frame.fin,
            size: frame.size,
            compressed: frame.deflate != InflateStatus::None,
            inflated,
            gaps,
            code,
            text: is_text.then(|| text(head)),
            hex: (!is_text).then(|| hex(head)),
            cut: frame.cut,
        }
    }
}

/// Converts the payload to text, without a truncated character at the end.
fn text(head: &[u8]) -> String {
    let valid_len = match std::str::from_utf8(head) {
        Err(error) if error.error_len().is_none() => error.valid_up_to(),
        _ => head.len(),
    };
    String::from_utf8_lossy(head.get(..valid_len).unwrap_or(head)).into_owned()
}

fn hex(head: &[u8]) -> String {
    head.iter().fold(String::new(), |mut text, byte| {
        write!(text, "{byte:02x}").expect("writing to a String cannot fail");
        text
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn truncated_character_is_dropped_and_invalid_bytes_are_replaced() {
        assert_eq!(text("aé".as_bytes()), "aé");
        assert_eq!(text(&"aé".as_bytes()[..2]), "a");
        assert_eq!(text(b"a\xFFb"), "a\u{FFFD}b");
        assert_eq!(hex(&[0, 0xAB]), "00ab");
    }
}
