//! From a client: compressed messages become plain ones.

use super::{DeflateParams, TAIL, write_frame};
use crate::proto::{
    frame::{FrameHeader, Opcode, RSV1, apply_mask},
    track::{Bounds, Violation},
};
use flate2::{Decompress, FlushDecompress, Status};
use std::cell::RefCell;

/// A client's frames on their way to where nobody inflates.
#[derive(Debug)]
pub struct FrameInflater {
    agreement: DeflateParams,
    /// What the client's compressor refers back to; from the first compressed message on, if the client keeps it.
    window: Option<Box<Decompress>>,
    frame: Option<InflateFrame>,
    message: Option<InflateMode>,
    /// On the client's own frames: those that come out are cut as it suits us.
    max_frame: u64,
    max_fragments: u32,
    /// Of the message, so far.
    fragments: u32,
    /// Inflated, and in no frame yet; empty between calls.
    plain: Vec<u8>,
}

/// The frame that its bytes belong to.
#[derive(Debug, Clone, Copy)]
struct InflateFrame {
    /// Payload that is still to come.
    left: u64,
    /// The key of a compressed one, turned so that its first byte is for the next byte; `None`: it goes on as it is.
    mask: Option<[u8; 4]>,
    fin: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum InflateMode {
    Plain,
    /// With the opcode of the next frame that comes out.
    Deflated(Opcode),
}

// === impl FrameInflater ===

impl FrameInflater {
    /// At the start of a stream.
    pub fn new(agreement: DeflateParams) -> Self {
        FrameInflater {
            agreement,
            window: None,
            frame: None,
            message: None,
            max_frame: u64::MAX,
            max_fragments: u32::MAX,
            fragments: 0,
            plain: Vec::new(),
        }
    }

    /// From the next frame on these bounds hold for the client's frames; `max_message` is for what comes out.
    pub fn bound(&mut self, bounds: &Bounds) {
        (self.max_frame, self.max_fragments) = (bounds.max_frame, bounds.max_fragments);
    }

    /// Turns what it can of `input` into plain frames behind what is in `out`, about `room` bytes of them; how much was
    /// taken. Nothing was taken and nothing came out: it needs more. `mask` gives keys that nobody can foresee.
    ///
    /// # Errors
    /// Frames that may not be, as far as that must be known here; the rest is seen by whoever follows the plain ones.
    pub fn advance(
        &mut self,
        input: &[u8],
        out: &mut Vec<u8>,
        room: usize,
        mut mask: impl FnMut() -> [u8; 4],
    ) -> Result<usize, Violation> {
        let end = out.len() + room;
        let mut at = 0;
        while out.len() + self.plain.len() < end {
            let rest = input.get(at..).unwrap_or_default();
            at += match self.frame {
                None => match self.enter(rest, out, &mut mask)? {
                    Some(taken) => taken,
                    None => break,
                },
                Some(InflateFrame { left: 0, .. }) => {
                    self.leave(out, &mut mask)?;
                    0
                }
                Some(_) if rest.is_empty() => break,
                Some(frame) => match frame.mask {
                    Some(key) => self.inflate(frame, key, rest)?,
                    None => self.pass(frame, rest, out),
                },
            };
        }
        if !self.plain.is_empty() {
            self.emit(false, out, &mut mask);
        }
        Ok(at)
    }

    /// Reads a header; one that goes on as it is stands in `out` then.
    fn enter(
        &mut self,
        bytes: &[u8],
        out: &mut Vec<u8>,
        mask: impl FnMut() -> [u8; 4],
    ) -> Result<Option<usize>, Violation> {
        let Some(header) = FrameHeader::parse(bytes)? else {
            return Ok(None);
        };
        let key = header.mask.ok_or(Violation::Unmasked)?;
        let begins = matches!(header.opcode, Opcode::Text | Opcode::Binary);
        match self.message {
            Some(_) if begins => return Err(Violation::InterruptedMessage),
            None if header.opcode == Opcode::Continuation => {
                return Err(Violation::UnexpectedContinuation);
            }
            _ => {}
        }
        if !header.opcode.is_control() {
            self.fragments = if begins {
                1
            } else {
                self.fragments.saturating_add(1)
            };
            if header.payload_len > self.max_frame {
                return Err(Violation::FrameTooBig);
            }
            if self.fragments > self.max_fragments {
                return Err(Violation::TooManyFragments);
            }
        }
        // RFC 7692 §6: not on control frames, nor on a message's later frames.
        let allowed = if begins { RSV1 } else { 0 };
        if header.rsv & !allowed != 0 {
            return Err(Violation::ReservedBits);
        }
        if begins {
            self.message = Some(match header.rsv {
                0 => InflateMode::Plain,
                _ => InflateMode::Deflated(header.opcode),
            });
        }
        let is_plain = header.opcode.is_control() || self.message == Some(InflateMode::Plain);
        if is_plain {
            // What came before it goes before it: its own payload follows, maybe in pieces.
            if !self.plain.is_empty() {
                self.emit(false, out, mask);
            }
            out.extend_from_slice(bytes.get(..header.len).unwrap_or_default());
        }
        self.frame = Some(InflateFrame {
            left: header.payload_len,
            mask: (!is_plain).then_some(key),
            fin: header.fin && !header.opcode.is_control(),
        });
        Ok(Some(header.len))
    }

    /// The end of a frame, and of its message if it was the last.
    fn leave(&mut self, out: &mut Vec<u8>, mask: impl FnMut() -> [u8; 4]) -> Result<(), Violation> {
        let Some(frame) = self.frame.take().filter(|frame| frame.fin) else {
            return Ok(());
        };
        if frame.mask.is_some() {
            let mut tail = &TAIL[..];
            while !tail.is_empty() {
                let taken = self.feed(tail)?;
                tail = tail.get(taken..).unwrap_or_default();
            }
            self.emit(true, out, mask);
            if !self.agreement.keeps {
                self.window = None;
            }
        }
        self.message = None;
        Ok(())
    }

    /// Some of a payload that goes on as it is; how much.
    fn pass(&mut self, frame: InflateFrame, bytes: &[u8], out: &mut Vec<u8>) -> usize {
        let left = usize::try_from(frame.left).unwrap_or(usize::MAX);
        let here = bytes.get(..left.min(bytes.len()).min(PIECE));
        let here = here.unwrap_or_default();
        out.extend_from_slice(here);
        self.frame = Some(InflateFrame {
            left: frame.left - here.len() as u64,
            ..frame
        });
        here.len()
    }

    /// Inflates some of a payload; how much.
    fn inflate(
        &mut self,
        frame: InflateFrame,
        mut key: [u8; 4],
        bytes: &[u8],
    ) -> Result<usize, Violation> {
        let left = usize::try_from(frame.left).unwrap_or(usize::MAX);
        let here = bytes.get(..left.min(bytes.len()).min(PIECE));
        let mut here = here.unwrap_or_default().to_vec();
        apply_mask(&mut here, key);
        let taken = self.feed(&here)?;
        key.rotate_left(taken % 4);
        self.frame = Some(InflateFrame {
            left: frame.left - taken as u64,
            mask: Some(key),
            ..frame
        });
        Ok(taken)
    }

    /// Gives the inflater these bytes; how many it took, and all of what came of them is in `plain`.
    fn feed(&mut self, bytes: &[u8]) -> Result<usize, Violation> {
        let bits = self.agreement.window();
        let fresh = || Box::new(Decompress::new_with_window_bits(false, bits));
        let window = self.window.get_or_insert_with(fresh);
        let mut at = 0;
        loop {
            let rest = bytes.get(at..).unwrap_or_default();
            let (taken, given) = (window.total_in(), window.total_out());
            // Not into `plain`: its room doubles, and all of that would be filled.
            let status = PLAIN.with_borrow_mut(|piece| {
                let status = window.decompress(rest, piece, FlushDecompress::None);
                let given = (window.total_out() - given) as usize;
                self.plain
                    .extend_from_slice(piece.get(..given).unwrap_or_default());
                status
            });
            let status = status.map_err(|_| Violation::BadDeflate)?;
            let given = (window.total_out() - given) as usize;
            let taken = (window.total_in() - taken) as usize;
            at += taken;
            match status {
                // RFC 7692 §7.2.3.4: a block may be the last of its stream, and the next one begins another.
                Status::StreamEnd => window.reset(false),
                _ if taken == 0 && given == 0 && at < bytes.len() => {
                    return Err(Violation::BadDeflate);
                }
                _ => {}
            }
            let is_done = match at == bytes.len() {
                // A piece that was not filled says that nothing is left: a few bits can stand for much.
                true => given < PIECE,
                // Who asks has room for a piece.
                false => self.plain.len() >= PIECE,
            };
            if is_done {
                return Ok(at);
            }
        }
    }

    /// What there is, as a frame.
    fn emit(&mut self, fin: bool, out: &mut Vec<u8>, mut mask: impl FnMut() -> [u8; 4]) {
        if let Some(InflateMode::Deflated(opcode)) = &mut self.message {
            let opcode = std::mem::replace(opcode, Opcode::Continuation);
            write_frame(out, fin, 0, opcode, Some(mask()), &mut self.plain);
        }
        // Given back, not cleared: an idle session holds no buffer.
        self.plain = Vec::new();
    }
}

thread_local! {
    /// What is inflated at a time; kept, for to zero it costs more than to fill it.
    static PLAIN: RefCell<Box<[u8]>> = RefCell::new(vec![0; PIECE].into_boxed_slice());
}

/// What is inflated at a time.
const PIECE: usize = 4096;
