//! Compresses plain messages for a client if that makes them shorter.

use super::{DeflateParams, TAIL, agreement::LARGEST, write_frame};
use crate::proto::frame::{FrameHeader, Opcode, RSV1};
use flate2::{Compress, Compression, FlushCompress};
use std::cell::RefCell;

/// Converts a backend's frames, validated before, to compressed frames of the client.
#[derive(Debug)]
pub struct FrameDeflater {
    agreement: DeflateParams,
    /// The beginning of an incomplete header.
    held: Vec<u8>,
    frame: Option<DeflateFrame>,
    message: Option<DeflateMode>,
}

#[derive(Debug, Clone, Copy)]
struct DeflateFrame {
    /// Payload that is still to come.
    left: u64,
    is_control: bool,
    fin: bool,
}

#[derive(Debug)]
enum DeflateMode {
    /// Not compressed, because compression would not make it shorter.
    Plain,
    Deflated(DeflateBuffer),
}

#[derive(Debug)]
struct DeflateBuffer {
    /// The compressor's window, if the client has chosen it.
    bits: Option<u8>,
    /// Of the next frame that goes out.
    opcode: Opcode,
    rsv: u8,
    /// Not compressed yet.
    text: Vec<u8>,
}

// === impl FrameDeflater ===

impl FrameDeflater {
    /// At the start of a stream.
    pub fn new(agreement: DeflateParams) -> Self {
        FrameDeflater {
            agreement,
            held: Vec::new(),
            frame: None,
            message: None,
        }
    }

    /// Consumes all of `input` and appends the output to `out`; up to 8 KiB may be kept.
    pub fn advance(&mut self, mut input: &[u8], out: &mut Vec<u8>) {
        loop {
            match self.frame {
                None => match self.enter(input, out) {
                    Some(rest) => input = rest,
                    None => return,
                },
                Some(DeflateFrame { left: 0, .. }) => self.leave(out),
                Some(_) if input.is_empty() => return,
                Some(frame) => {
                    let left = usize::try_from(frame.left).unwrap_or(usize::MAX);
                    let (here, rest) = input.split_at(left.min(input.len()));
                    match &mut self.message {
                        Some(DeflateMode::Deflated(message)) if !frame.is_control => {
                            message.text.extend_from_slice(here);
                            if message.text.len() >= PIECE {
                                message.emit(false, out);
                            }
                        }
                        _ => out.extend_from_slice(here),
                    }
                    self.frame = Some(DeflateFrame {
                        left: frame.left - here.len() as u64,
                        ..frame
                    });
                    input = rest;
                }
            }
        }
    }

    /// Reads a header and returns the bytes after it.
    fn enter<'a>(&mut self, input: &'a [u8], out: &mut Vec<u8>) -> Option<&'a [u8]> {
        let before = self.held.len();
        self.held
            .extend_from_slice(input.get(..LONGEST.min(input.len()))?);
        let Ok(Some(header)) = FrameHeader::parse(&self.held) else {
            return None;
        };
        let is_control = header.opcode.is_control();
        if matches!(header.opcode, Opcode::Text | Opcode::Binary) {
            let is_short = header.fin && header.payload_len < SHORT;
            self.message = Some(match is_short {
                true => DeflateMode::Plain,
                false => DeflateMode::Deflated(DeflateBuffer::begin(header.opcode, self.agreement)),
            });
        }
        if is_control || matches!(self.message, Some(DeflateMode::Plain)) {
            out.extend_from_slice(self.held.get(..header.len)?);
        }
        self.held = Vec::new();
        self.frame = Some(DeflateFrame {
            left: header.payload_len,
            is_control,
            fin: header.fin,
        });
        input.get(header.len - before..)
    }

    /// Ends a frame: everything received so far is sent to the client now, and the message may be complete.
    fn leave(&mut self, out: &mut Vec<u8>) {
        let Some(frame) = self.frame.take().filter(|frame| !frame.is_control) else {
            return;
        };
        if let Some(DeflateMode::Deflated(message)) = &mut self.message {
            message.emit(frame.fin, out);
        }
        if frame.fin {
            self.message = None;
        }
    }
}

// === impl DeflateBuffer ===

impl DeflateBuffer {
    fn begin(opcode: Opcode, agreement: DeflateParams) -> Self {
        DeflateBuffer {
            bits: agreement.ours,
            opcode,
            rsv: RSV1,
            text: Vec::new(),
        }
    }

    /// Compresses the kept bytes and writes them as a frame. The compressor is borrowed only for this call, so that all
    /// sessions of a thread share it.
    fn emit(&mut self, fin: bool, out: &mut Vec<u8>) {
        let idle = match self.bits {
            None => IDLE.with_borrow_mut(Option::take),
            Some(_) => None,
        };
        let bits = self.bits.unwrap_or(LARGEST);
        let fresh = || Box::new(Compress::new_with_window_bits(LEVEL, false, bits));
        let mut compressor = idle.unwrap_or_else(fresh);
        let mut packed = compress(&mut compressor, &self.text);
        if self.bits.is_none() {
            compressor.reset();
            IDLE.with_borrow_mut(|idle| *idle = Some(compressor));
        }
        if fin {
            // RFC 7692 §7.2.1: the tail of a flush is not sent.
            packed.truncate(packed.len().saturating_sub(TAIL.len()));
        }
        write_frame(out, fin, self.rsv, self.opcode, None, &mut packed);
        (self.rsv, self.opcode) = (0, Opcode::Continuation);
        // Replaced instead of cleared, so that a session that waits for more holds no buffer.
        self.text = Vec::new();
    }
}

/// Compresses all of `text` up to a flush without later back-references: another message or the rest of this one may
/// follow.
fn compress(compressor: &mut Compress, mut text: &[u8]) -> Vec<u8> {
    let mut packed = Vec::new();
    loop {
        // Not into an array, which would be zeroed each time.
        packed.reserve(ROOM);
        let full = packed.capacity();
        let taken = compressor.total_in();
        let status = compressor.compress_vec(text, &mut packed, FlushCompress::Sync);
        debug_assert!(status.is_ok(), "it has a buffer, and bytes are bytes");
        let taken = (compressor.total_in() - taken) as usize;
        text = text.get(taken..).unwrap_or_default();
        if packed.len() < full && (text.is_empty() || taken == 0) {
            return packed;
        }
    }
}

thread_local! {
    /// The compressor of this thread while no message uses it: about 300 KiB, shared by all sessions.
    static IDLE: RefCell<Option<Box<Compress>>> = const { RefCell::new(None) };
}

/// Messages up to this length are not compressed, because they would not become shorter.
const SHORT: u64 = 16;

/// Half the work of zlib's default level at nearly its ratio for typical server messages.
const LEVEL: Compression = Compression::new(4);

/// Bytes that are compressed at once, unless a frame ends before.
const PIECE: usize = 8 * 1024;

/// Space reserved for compressed output.
const ROOM: usize = 4096;

/// Maximum length of a frame header (RFC 6455 §5.2).
const LONGEST: usize = 14;
