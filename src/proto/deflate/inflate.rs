//! Conversion of a client's compressed frames to plain frames.

use crate::proto::{
    deflate::{DeflateParams, TAIL, write_frame},
    frame::{FrameHeader, Opcode, RSV1, apply_mask},
    frame_tracker::{Bounds, Violation},
};
use flate2::{Decompress, FlushDecompress, Status};
use std::cell::RefCell;

/// Converts a client's frames for a backend that does not use compression.
#[derive(Debug)]
pub struct FrameInflater {
    params: DeflateParams,
    /// The window of the client's compressor; kept from the first compressed message on if the client keeps its
    /// context.
    window: Option<Box<Decompress>>,
    frame: Option<InflateFrame>,
    message: Option<InflateMode>,
    /// Bound on the frames that the client sends; the frames produced here may be larger.
    max_frame: u64,
    max_fragments: u32,
    /// Frames of the current message so far.
    fragments: u32,
    /// Frames since the last call of [`FrameInflater::take_frames`].
    frames: u32,
    /// Inflated bytes that are not written as a frame yet; empty between calls.
    plain: Vec<u8>,
}

/// The frame whose payload is being read.
#[derive(Debug, Clone, Copy)]
struct InflateFrame {
    /// Payload bytes that have not arrived yet.
    remaining: u64,
    /// The masking key of a compressed frame, rotated so that its first byte applies to the next byte; `None`: the
    /// frame is passed on unchanged.
    mask: Option<[u8; 4]>,
    fin: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum InflateMode {
    Plain,
    /// Compressed; contains the opcode of the next frame that is written.
    Deflated(Opcode),
}

// === impl FrameInflater ===

impl FrameInflater {
    /// Creates the inflater for the start of a stream.
    pub fn new(params: DeflateParams) -> Self {
        FrameInflater {
            params,
            window: None,
            frame: None,
            message: None,
            max_frame: u64::MAX,
            max_fragments: u32::MAX,
            fragments: 0,
            frames: 0,
            plain: Vec::new(),
        }
    }

    /// Applies bounds to the client's frames from the next one on. `max_message` is checked on the plain frames.
    pub fn set_bounds(&mut self, bounds: &Bounds) {
        (self.max_frame, self.max_fragments) = (bounds.max_frame, bounds.max_fragments);
    }

    /// Returns the number of frames that have begun since the last call.
    pub fn take_frames(&mut self) -> u32 {
        std::mem::take(&mut self.frames)
    }

    /// Converts `input` to plain frames appended to `out`, up to about `max_len` bytes, and returns how many bytes of
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
        max_len: usize,
        mut mask: impl FnMut() -> [u8; 4],
    ) -> Result<usize, Violation> {
        let end = out.len() + max_len;
        let mut at = 0;
        while out.len() + self.plain.len() < end {
            let rest = input.get(at..).unwrap_or_default();
            at += match self.frame {
                None => match self.begin_frame(rest, out, &mut mask)? {
                    Some(consumed) => consumed,
                    None => break,
                },
                Some(InflateFrame { remaining: 0, .. }) => {
                    self.end_frame(out, &mut mask)?;
                    0
                }
                Some(_) if rest.is_empty() => break,
                Some(frame) => match frame.mask {
                    Some(key) => self.inflate(frame, key, rest)?,
                    None => self.copy_payload(frame, rest, out),
                },
            };
        }
        if !self.plain.is_empty() {
            self.emit(false, out, &mut mask);
        }
        Ok(at)
    }

    /// Reads a header and writes it to `out` if the frame is passed on unchanged.
    fn begin_frame(
        &mut self,
        bytes: &[u8],
        out: &mut Vec<u8>,
        mask: impl FnMut() -> [u8; 4],
    ) -> Result<Option<usize>, Violation> {
        let Some(header) = FrameHeader::parse(bytes)? else {
            return Ok(None);
        };
        let key = match header.mask {
            Some(key) => key,
            // Passed on unchanged: the relay of the plain frames decides whether it answers a Ping of ours.
            None if header.opcode == Opcode::Pong => [0; 4],
            None => return Err(Violation::Unmasked),
        };
        self.frames = self.frames.saturating_add(1);
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
        // RFC 7692 §6: RSV1 is set only on the first frame of a message.
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
            remaining: header.payload_len,
            mask: (!is_plain).then_some(key),
            fin: header.fin && !header.opcode.is_control(),
        });
        Ok(Some(header.len))
    }

    /// Ends a frame, and its message if it was the last frame.
    fn end_frame(
        &mut self,
        out: &mut Vec<u8>,
        mask: impl FnMut() -> [u8; 4],
    ) -> Result<(), Violation> {
        let Some(frame) = self.frame.take().filter(|frame| frame.fin) else {
            return Ok(());
        };
        if frame.mask.is_some() {
            let mut tail = &TAIL[..];
            while !tail.is_empty() {
                let consumed = self.feed(tail)?;
                tail = tail.get(consumed..).unwrap_or_default();
            }
            self.emit(true, out, mask);
            if !self.params.client_keeps_context {
                self.window = None;
            }
        }
        self.message = None;
        Ok(())
    }

    /// Copies part of an unchanged payload to `out`; returns how many bytes.
    fn copy_payload(&mut self, frame: InflateFrame, bytes: &[u8], out: &mut Vec<u8>) -> usize {
        let remaining = usize::try_from(frame.remaining).unwrap_or(usize::MAX);
        let here = bytes.get(..remaining.min(bytes.len()).min(CHUNK_LEN));
        let here = here.unwrap_or_default();
        out.extend_from_slice(here);
        self.frame = Some(InflateFrame {
            remaining: frame.remaining - here.len() as u64,
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
        let remaining = usize::try_from(frame.remaining).unwrap_or(usize::MAX);
        let here = bytes.get(..remaining.min(bytes.len()).min(CHUNK_LEN));
        let mut here = here.unwrap_or_default().to_vec();
        apply_mask(&mut here, key);
        let consumed = self.feed(&here)?;
        key.rotate_left(consumed % 4);
        self.frame = Some(InflateFrame {
            remaining: frame.remaining - consumed as u64,
            mask: Some(key),
            ..frame
        });
        Ok(consumed)
    }

    /// Passes `bytes` to the inflater and appends its output to `plain`; returns how many bytes were consumed.
    fn feed(&mut self, bytes: &[u8]) -> Result<usize, Violation> {
        let bits = self.params.inflate_window_bits();
        let new_inflater = || Box::new(Decompress::new_with_window_bits(false, bits));
        let window = self.window.get_or_insert_with(new_inflater);
        let mut at = 0;
        loop {
            let rest = bytes.get(at..).unwrap_or_default();
            let (consumed, produced) = (window.total_in(), window.total_out());
            // Not directly into `plain`: its capacity doubles, and all of it would be zeroed.
            let status = SCRATCH.with_borrow_mut(|scratch| {
                let status = window.decompress(rest, scratch, FlushDecompress::None);
                let produced = (window.total_out() - produced) as usize;
                self.plain
                    .extend_from_slice(scratch.get(..produced).unwrap_or_default());
                status
            });
            let status = status.map_err(|_| Violation::BadDeflate)?;
            let produced = (window.total_out() - produced) as usize;
            let consumed = (window.total_in() - consumed) as usize;
            at += consumed;
            match status {
                // RFC 7692 §7.2.3.4: a block may be the final one of its stream; the next one begins a new stream.
                Status::StreamEnd => window.reset(false),
                _ if consumed == 0 && produced == 0 && at < bytes.len() => {
                    return Err(Violation::BadDeflate);
                }
                _ => {}
            }
            let is_done = if at == bytes.len() {
                // Output is pending until a chunk is not filled: a few bits can encode a lot of output.
                produced < CHUNK_LEN
            } else {
                // The caller allows one chunk of output.
                self.plain.len() >= CHUNK_LEN
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
    /// Output buffer of one chunk; kept because zeroing it costs more than filling it.
    static SCRATCH: RefCell<Box<[u8]>> = RefCell::new(vec![0; CHUNK_LEN].into_boxed_slice());
}

/// Bytes that are inflated at once.
const CHUNK_LEN: usize = 4096;
