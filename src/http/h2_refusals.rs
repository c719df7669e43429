//! What h2 refuses without calling the service: it answers a malformed request with RST_STREAM, a header list above its
//! limit with a bare 431, and an error of the connection with GOAWAY. hyper reports none of them, so they are
//! found in the frames that h2 writes.

use crate::http::refusal::RefusalReason;

/// Finds refusals in the frames of a server, which may be split at any byte.
#[derive(Debug, Default)]
pub(crate) struct RefusalScanner {
    /// The frame header (RFC 9113 §4.1), and the first bytes of the payload of HEADERS, RST_STREAM and GOAWAY.
    kept: [u8; KEPT_LEN],
    kept_len: usize,
    /// The bytes of the payload that are skipped.
    skip: usize,
    /// The stream of the last frame, if that was the 431 of h2.
    too_large: Option<u32>,
    /// Set once `:status: 431` was sent as a literal: h2 may then refer to it by an index.
    is_431_indexed: bool,
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
                self.inspect();
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
        HEADER_LEN + self.payload_len().min(self.kept_of_payload())
    }

    fn payload_len(&self) -> usize {
        let [a, b, c, ..] = self.kept;
        usize::from(a) << 16 | usize::from(b) << 8 | usize::from(c)
    }

    /// Returns how many bytes of the payload of a frame of this type are kept, at most.
    fn kept_of_payload(&self) -> usize {
        match self.kept[3] {
            RST_STREAM => 4,
            GOAWAY | HEADERS => 8,
            _ => 0,
        }
    }

    fn inspect(&mut self) {
        let [_, _, _, kind, flags, a, b, c, d, ..] = self.kept;
        let stream = u32::from_be_bytes([a, b, c, d]) & MAX_STREAM_ID;
        let payload = &self.kept[HEADER_LEN..self.kept_len];
        let code = match payload {
            [.., a, b, c, d] if payload.len() == self.kept_of_payload() => {
                u32::from_be_bytes([*a, *b, *c, *d])
            }
            _ => NO_ERROR,
        };
        let mut too_large = None;
        match (kind, code) {
            (RST_STREAM, REFUSED_STREAM) => self.found.excess += 1,
            // h2 resets the stream after its 431.
            (RST_STREAM, PROTOCOL_ERROR) if self.too_large == Some(stream) => {}
            (RST_STREAM, code) if STREAM_ERRORS.contains(&code) => self.found.malformed += 1,
            (GOAWAY, NO_ERROR) => {}
            (GOAWAY, _) => self.found.connection += 1,
            (HEADERS, _) => {
                let block = without_size_update(payload);
                // A response of the service has further fields.
                let is_whole = flags & END_STREAM != 0 && payload.len() == self.payload_len();
                let is_literal = LITERAL_431.contains(&block);
                let is_indexed = self.is_431_indexed && matches!(block, [DYNAMIC_INDEX..=0xFE]);
                if is_whole && (is_literal || is_indexed) {
                    self.found.too_large += 1;
                    too_large = Some(stream);
                }
                self.is_431_indexed |= LITERAL_431.iter().any(|it| block.starts_with(it));
            }
            _ => {}
        }
        self.too_large = too_large;
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

/// Returns a header block without a leading dynamic table size update (RFC 7541 §6.3).
fn without_size_update(block: &[u8]) -> &[u8] {
    match block {
        [0x3F, rest @ ..] => {
            let end = rest.iter().position(|byte| byte & 0x80 == 0);
            end.map_or(&[], |end| &rest[end + 1..])
        }
        [0x20..0x3F, rest @ ..] => rest,
        _ => block,
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

/// `:status: 431` alone, which is the head of the response of h2, with indexing and without (RFC 7541 §6.2).
const LITERAL_431: [&[u8]; 3] = [
    b"\x48\x83\x69\x90\xFF",
    b"\x48\x03431",
    b"\x08\x83\x69\x90\xFF",
];

/// The first index of the dynamic table (RFC 7541 §2.3.3).
const DYNAMIC_INDEX: u8 = 0x80 | 62;

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
            frame(HEADERS, END_STREAM, 7, b"\x3F\xE1\x1F\x48\x83\x69\x90\xFF"),
            rst(7, PROTOCOL_ERROR),
            frame(HEADERS, END_STREAM, 13, b"\xBE"),
            // A response of the service.
            frame(HEADERS, END_STREAM, 15, b"\xBE\xBF"),
            rst(9, REFUSED_STREAM),
            rst(11, 8),
            goaway(NO_ERROR),
            goaway(PROTOCOL_ERROR),
        ];
        let expected = [
            (400, "malformed"),
            (400, "h2-connection"),
            (431, "head-size"),
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
