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
    /// The payload is longer than the part shown.
    cut: bool,
}

// === impl FrameRow ===

impl FrameRow {
    pub(super) fn of(seen: &TappedFrame) -> FrameRow {
        let (code, head) = match (seen.kind, seen.head.as_slice()) {
            (Opcode::Close, [high, low, reason @ ..]) => {
                (Some(u16::from_be_bytes([*high, *low])), reason)
            }
            (_, head) => (None, head),
        };
        let is_text = matches!(seen.kind, Opcode::Text | Opcode::Close);
        let is_text = is_text && seen.deflate != InflateStatus::NotInflated;
        let (inflated, gaps) = match seen.deflate {
            InflateStatus::Inflated { size, whole } => (Some(size), !whole),
            InflateStatus::None | InflateStatus::NotInflated => (None, false),
        };
        FrameRow {
            at: humantime::format_rfc3339_millis(seen.at).to_string(),
            id: format!("{:016x}", seen.session.id),
            client: seen.session.client.to_string(),
            route: seen.session.route.to_string(),
            from: match seen.from {
                Role::Client => "client",
                Role::Server => "backend",
            },
            kind: match seen.kind {
                Opcode::Continuation => "continuation",
                Opcode::Text => "text",
                Opcode::Binary => "binary",
                Opcode::Close => "close",
                Opcode::Ping => "ping",
                Opcode::Pong => "pong",
            },
            continues: seen.continues,
            fin: seen.fin,
            size: seen.size,
            compressed: seen.deflate != InflateStatus::None,
            inflated,
            gaps,
            code,
            text: is_text.then(|| text(head)),
            hex: (!is_text).then(|| hex(head)),
            cut: seen.cut,
        }
    }
}

/// Drops a character that is cut off at the end.
fn text(head: &[u8]) -> String {
    let whole = match std::str::from_utf8(head) {
        Err(error) if error.error_len().is_none() => error.valid_up_to(),
        _ => head.len(),
    };
    String::from_utf8_lossy(head.get(..whole).unwrap_or(head)).into_owned()
}

fn hex(head: &[u8]) -> String {
    head.iter().fold(String::new(), |mut text, byte| {
        write!(text, "{byte:02x}").expect("a String takes all that is written");
        text
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cut_character_is_left_away_and_what_is_no_text_is_shown_as_far_as_it_goes() {
        assert_eq!(text("aé".as_bytes()), "aé");
        assert_eq!(text(&"aé".as_bytes()[..2]), "a");
        assert_eq!(text(b"a\xFFb"), "a\u{FFFD}b");
        assert_eq!(hex(&[0, 0xAB]), "00ab");
    }
}
