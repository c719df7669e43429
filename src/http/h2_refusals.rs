//! What h2 refuses without calling the service: it answers a malformed request with RST_STREAM, a header list above its
//! limit with a 431 and RST_STREAM, and an error of the connection with GOAWAY. hyper reports none of them, so they are
//! found in the frames that h2 writes.

use crate::http::refusal::RefusalReason;

/// Finds refusals in the frames of a server, which may be split at any byte.
#[derive(Debug, Default)]
pub(crate) struct RefusalScanner {
    /// The frame header (RFC 9113 §4.1), and the first bytes of the payload of RST_STREAM and GOAWAY.
    kept: [u8; KEPT_LEN],
    kept_len: usize,
    /// The bytes of the payload that are skipped.
    skip: usize,
    /// The stream of the last frame, if that was a complete response without a body.
    ended: Option<u32>,
    found: FoundRefusals,
}

/// The refusals since the last call of [`RefusalScanner::take`]; bounded, because each is counted.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub(crate) struct FoundRefusals {
    malformed: u32,
    too_large: u32,
    excess: u32,
    connection: u32,
}

// === impl RefusalScanner ===

impl RefusalScanner {
    /// Scans the next bytes.
    pub(crate) fn scan(&mut self, mut bytes: &[u8]) {
        while !bytes.is_empty() {
            if self.skip > 0 {
                let skipped = self.skip.min(bytes.len());
                self.skip -= skipped;
                bytes = &bytes[skipped..];
                continue;
            }
            let kept_max = self.kept_max();
            let taken = (kept_max - self.kept_len).min(bytes.len());
            let (new, rest) = bytes.split_at(taken);
            self.kept[self.kept_len..self.kept_len + taken].copy_from_slice(new);
            self.kept_len += taken;
            bytes = rest;
            if self.kept_len == self.kept_max() {
                self.end_of_header();
            }
        }
    }

    /// Returns what was found since the last call; `None` if nothing was.
    pub(crate) fn take(&mut self) -> Option<FoundRefusals> {
        let found = std::mem::take(&mut self.found);
        (found != FoundRefusals::default()).then_some(found)
    }

    /// Returns how many bytes of the current frame are kept.
    fn kept_max(&self) -> usize {
        if self.kept_len < HEADER_LEN {
            return HEADER_LEN;
        }
        HEADER_LEN + self.payload_len().min(self.code_end())
    }

    fn payload_len(&self) -> usize {
        let [a, b, c, ..] = self.kept;
        usize::from(a) << 16 | usize::from(b) << 8 | usize::from(c)
    }

    /// Returns the end of the error code in the payload; 0 if the frame has none.
    fn code_end(&self) -> usize {
        match self.kept[3] {
            RST_STREAM => 4,
            GOAWAY => 8,
            _ => 0,
        }
    }

    fn end_of_header(&mut self) {
        let [_, _, _, kind, flags, a, b, c, d, ..] = self.kept;
        let stream = u32::from_be_bytes([a, b, c, d]) & MAX_STREAM_ID;
        let code_end = HEADER_LEN + self.code_end();
        let code = match self.kept[..self.kept_len] {
            [.., a, b, c, d] if self.kept_len == code_end => u32::from_be_bytes([a, b, c, d]),
            _ => NO_ERROR,
        };
        match (kind, code) {
            (RST_STREAM, REFUSED_STREAM) => self.found.excess += 1,
            (RST_STREAM, PROTOCOL_ERROR) if self.ended == Some(stream) => self.found.too_large += 1,
            (RST_STREAM, code) if STREAM_ERRORS.contains(&code) => self.found.malformed += 1,
            (GOAWAY, NO_ERROR) => {}
            (GOAWAY, _) => self.found.connection += 1,
            _ => {}
        }
        let is_response = kind == HEADERS && flags & END_STREAM != 0;
        self.ended = is_response.then_some(stream);
        self.skip = self.payload_len() + HEADER_LEN - self.kept_len;
        self.kept_len = 0;
    }
}

// === impl FoundRefusals ===

impl FoundRefusals {
    /// Returns the status and reason of each refusal.
    pub(crate) fn each(self) -> impl Iterator<Item = (u16, RefusalReason)> {
        [
            (self.malformed, 400, RefusalReason::Malformed),
            (self.connection, 400, RefusalReason::H2Connection),
            (self.too_large, 431, RefusalReason::HeadSize),
            (self.excess, 503, RefusalReason::StreamsExcess),
        ]
        .into_iter()
        .flat_map(|(count, status, why)| (0..count).map(move |_| (status, why)))
    }
}

const HEADER_LEN: usize = 9;

/// A frame header, and a payload of GOAWAY up to its error code (RFC 9113 §6.8).
const KEPT_LEN: usize = HEADER_LEN + 8;

const MAX_STREAM_ID: u32 = (1 << 31) - 1;

/// Frame types (RFC 9113 §6).
const HEADERS: u8 = 1;
const RST_STREAM: u8 = 3;
const GOAWAY: u8 = 7;

const END_STREAM: u8 = 1;

/// Error codes (RFC 9113 §7).
const NO_ERROR: u32 = 0;
const PROTOCOL_ERROR: u32 = 1;
const REFUSED_STREAM: u32 = 7;

/// The codes by which h2 resets a stream because of a frame: PROTOCOL_ERROR, FLOW_CONTROL_ERROR, FRAME_SIZE_ERROR and
/// ENHANCE_YOUR_CALM. STREAM_CLOSED is not one: it answers frames that were sent before an early response arrived.
const STREAM_ERRORS: [u32; 4] = [PROTOCOL_ERROR, 3, 6, 11];

#[cfg(test)]
mod tests {
    use super::*;

    fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
        let mut frame = vec![0, 0, payload.len() as u8, kind, flags];
        frame.extend(stream.to_be_bytes());
        frame.extend(payload);
        frame
    }

    fn rst(stream: u32, code: u32) -> Vec<u8> {
        frame(RST_STREAM, 0, stream, &code.to_be_bytes())
    }

    fn goaway(code: u32) -> Vec<u8> {
        let payload = [5_u32.to_be_bytes(), code.to_be_bytes(), *b"why?"].concat();
        frame(GOAWAY, 0, 0, &payload)
    }

    /// Returns the statuses and reasons found in `frames`, which arrive in pieces of `piece` bytes.
    fn scan(frames: &[Vec<u8>], piece: usize) -> Vec<(u16, &'static str)> {
        let mut scanner = RefusalScanner::default();
        for bytes in frames.concat().chunks(piece) {
            scanner.scan(bytes);
        }
        let found = scanner.take().into_iter().flat_map(FoundRefusals::each);
        found.map(|(status, why)| (status, why.as_str())).collect()
    }

    #[test]
    fn resets_and_goaways_of_h2_are_found_in_any_pieces() {
        let frames = [
            frame(4, 0, 0, &[0; 18]),
            frame(HEADERS, END_STREAM, 1, b"\x88"),
            rst(1, NO_ERROR),
            rst(3, PROTOCOL_ERROR),
            frame(0, 0, 5, &[RST_STREAM; 40]),
            frame(HEADERS, END_STREAM, 7, b"431"),
            rst(7, PROTOCOL_ERROR),
            rst(9, REFUSED_STREAM),
            rst(11, 8),
            goaway(NO_ERROR),
            goaway(PROTOCOL_ERROR),
        ];
        let expected = [
            (400, "malformed"),
            (400, "h2-connection"),
            (431, "head-size"),
            (503, "streams-excess"),
        ];
        for piece in [1, 2, 7, 9, 13, 1000] {
            assert_eq!(scan(&frames, piece), expected, "{piece}");
        }
    }

    #[test]
    fn frames_of_wrong_length_are_skipped() {
        let frames = [
            frame(RST_STREAM, 0, 1, b"\0\0"),
            frame(GOAWAY, 0, 0, b"\0\0\0\x01"),
            frame(RST_STREAM, 0, 1, &[0, 0, 0, 1, 9, 9]),
        ];
        assert_eq!(scan(&frames, 3), [(400, "malformed")]);
    }
}
