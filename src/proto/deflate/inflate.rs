//! Inflates compressed messages of a client to plain ones.

use super::{DeflateParams, TAIL, write_frame};
use crate::proto::{
    frame::{FrameHeader, Opcode, RSV1, apply_mask},
    track::{Bounds, Violation},
};
use flate2::{Decompress, FlushDecompress, Status};
use std::cell::RefCell;

/// Converts a client's frames for a backend that does not use compression.
#[derive(Debug)]
pub struct FrameInflater {
    agreement: DeflateParams,
    /// The window of the client's compressor; kept from the first compressed message on if the client keeps its
    /// context.
    window: Option<Box<Decompress>>,
    frame: Option<InflateFrame>,
    message: Option<InflateMode>,
    /// Bound on the client's own frames; the size of the frames produced here is independent of it.
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
    /// The masking key of a compressed frame, rotated so that its first byte applies to the next byte; `None`: the
    /// frame is passed on unchanged.
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

    /// Converts `input` to plain frames appended to `out`, up to about `room` bytes, and returns how many bytes of
    /// `input` were consumed. If nothing was consumed or produced, more input is needed. `mask` returns unpredictable
    /// masking keys.
    ///
    /// # Errors
    /// Returns the violations that must be detected before inflation; the tracker of the plain frames detects all
    /// others.
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

    /// Reads a header and writes it to `out` if the frame is passed on unchanged.
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
            // Earlier data is written first: the payload of this frame follows, possibly in pieces.
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

    /// Ends a frame, and its message if it was the last frame.
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

    /// Passes on part of an unchanged payload; returns how many bytes.
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

    /// Inflates part of a payload; returns how many bytes were consumed.
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

    /// Passes `bytes` to the inflater and appends its output to `plain`; returns how many bytes were consumed.
    fn feed(&mut self, bytes: &[u8]) -> Result<usize, Violation> {
        let bits = self.agreement.window();
        let fresh = || Box::new(Decompress::new_with_window_bits(false, bits));
        let window = self.window.get_or_insert_with(fresh);
        let mut at = 0;
        loop {
            let rest = bytes.get(at..).unwrap_or_default();
            let (taken, given) = (window.total_in(), window.total_out());
            // Not directly into `plain`: its capacity doubles, and all of that would be filled.
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
                // A piece that was not filled means that no output is left: a few bits can encode a lot of output.
                true => given < PIECE,
                // The caller has space for one piece.
                false => self.plain.len() >= PIECE,
            };
            if is_done {
                return Ok(at);
            }
        }
    }

    /// Writes the inflated bytes as a frame.
    fn emit(&mut self, fin: bool, out: &mut Vec<u8>, mut mask: impl FnMut() -> [u8; 4]) {
        if let Some(InflateMode::Deflated(opcode)) = &mut self.message {
            let opcode = std::mem::replace(opcode, Opcode::Continuation);
            write_frame(out, fin, 0, opcode, Some(mask()), &mut self.plain);
        }
        // Replaced instead of cleared, so that an idle session holds no buffer.
        self.plain = Vec::new();
    }
}

thread_local! {
    /// Output buffer of one piece; kept because zeroing it costs more than filling it.
    static PLAIN: RefCell<Box<[u8]>> = RefCell::new(vec![0; PIECE].into_boxed_slice());
}

/// Bytes that are inflated at once.
const PIECE: usize = 4096;
