//! Conversion of a backend's plain frames to compressed frames for the client; short messages stay plain.

use crate::proto::{
    deflate::{DeflateParams, MAX_WINDOW_BITS, TAIL, write_frame},
    frame::{FrameHeader, Opcode, RSV1},
};
use flate2::{Compress, Compression, FlushCompress};
use std::cell::RefCell;

/// Converts a backend's frames, which were validated before, to compressed frames for the client.
#[derive(Debug)]
pub struct FrameDeflater {
    params: DeflateParams,
    /// The beginning of an incomplete header.
    header_bytes: Vec<u8>,
    frame: Option<DeflateFrame>,
    message: Option<DeflateMode>,
}

#[derive(Debug, Clone, Copy)]
struct DeflateFrame {
    /// Payload bytes that have not arrived yet.
    remaining: u64,
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
    /// Window of the compressor if the client has limited it; `None`: the largest.
    window_bits: Option<u8>,
    /// Opcode of the next frame that is written.
    opcode: Opcode,
    rsv: u8,
    /// Bytes that are not compressed yet.
    plain: Vec<u8>,
}

// === impl FrameDeflater ===

impl FrameDeflater {
    /// Creates the deflater for the start of a stream.
    pub fn new(params: DeflateParams) -> Self {
        FrameDeflater {
            params,
            header_bytes: Vec::new(),
            frame: None,
            message: None,
        }
    }

    /// Consumes all of `input` and appends the output to `out`; up to 8 KiB may be kept.
    pub fn advance(&mut self, mut input: &[u8], out: &mut Vec<u8>) {
        loop {
            match self.frame {
                None => match self.begin_frame(input, out) {
                    Some(rest) => input = rest,
                    None => return,
                },
                Some(DeflateFrame { remaining: 0, .. }) => self.end_frame(out),
                Some(_) if input.is_empty() => return,
                Some(frame) => {
                    let remaining = usize::try_from(frame.remaining).unwrap_or(usize::MAX);
                    let (here, rest) = input.split_at(remaining.min(input.len()));
                    match &mut self.message {
                        Some(DeflateMode::Deflated(message)) if !frame.is_control => {
                            message.plain.extend_from_slice(here);
                            if message.plain.len() >= CHUNK_LEN {
                                message.emit(false, out);
                            }
                        }
                        _ => out.extend_from_slice(here),
                    }
                    self.frame = Some(DeflateFrame {
                        remaining: frame.remaining - here.len() as u64,
                        ..frame
                    });
                    input = rest;
                }
            }
        }
    }

    /// Reads a header and returns the bytes after it.
    fn begin_frame<'a>(&mut self, input: &'a [u8], out: &mut Vec<u8>) -> Option<&'a [u8]> {
        let before = self.header_bytes.len();
        self.header_bytes
            .extend_from_slice(input.get(..MAX_HEADER_LEN.min(input.len()))?);
        let Ok(Some(header)) = FrameHeader::parse(&self.header_bytes) else {
            return None;
        };
        let is_control = header.opcode.is_control();
        if matches!(header.opcode, Opcode::Text | Opcode::Binary) {
            let is_short = header.fin && header.payload_len < MIN_COMPRESSED_LEN;
            self.message = Some(if is_short {
                DeflateMode::Plain
            } else {
                DeflateMode::Deflated(DeflateBuffer::begin(header.opcode, self.params))
            });
        }
        if is_control || matches!(self.message, Some(DeflateMode::Plain)) {
            out.extend_from_slice(self.header_bytes.get(..header.len)?);
        }
        self.header_bytes = Vec::new();
        self.frame = Some(DeflateFrame {
            remaining: header.payload_len,
            is_control,
            fin: header.fin,
        });
        input.get(header.len - before..)
    }

    /// Ends a frame: everything received so far is sent to the client now, and the message may be complete.
    fn end_frame(&mut self, out: &mut Vec<u8>) {
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
    fn begin(opcode: Opcode, params: DeflateParams) -> Self {
        DeflateBuffer {
            window_bits: params.server_window_bits,
            opcode,
            rsv: RSV1,
            plain: Vec::new(),
        }
    }

    /// Compresses the kept bytes and writes them as a frame. Each call starts with an empty window, so that all
    /// sessions of a thread share one compressor.
    fn emit(&mut self, fin: bool, out: &mut Vec<u8>) {
        let idle = match self.window_bits {
            None => IDLE_COMPRESSOR.with_borrow_mut(Option::take),
            Some(_) => None,
        };
        let window_bits = self.window_bits.unwrap_or(MAX_WINDOW_BITS);
        let new_compressor = || Box::new(Compress::new_with_window_bits(LEVEL, false, window_bits));
        let mut compressor = idle.unwrap_or_else(new_compressor);
        let mut compressed = compress(&mut compressor, &self.plain);
        if self.window_bits.is_none() {
            compressor.reset();
            IDLE_COMPRESSOR.with_borrow_mut(|idle| *idle = Some(compressor));
        }
        if fin {
            // RFC 7692 §7.2.1: the tail of a flush is not sent.
            compressed.truncate(compressed.len().saturating_sub(TAIL.len()));
        }
        write_frame(out, fin, self.rsv, self.opcode, None, &mut compressed);
        (self.rsv, self.opcode) = (0, Opcode::Continuation);
        // Replaced instead of cleared, so that an idle session holds no buffer.
        self.plain = Vec::new();
    }
}

/// Compresses all of `plain` and flushes the compressor, so that the output ends with [`TAIL`].
fn compress(compressor: &mut Compress, mut plain: &[u8]) -> Vec<u8> {
    let mut compressed = Vec::new();
    loop {
        // Not into an array, which would be zeroed each time.
        compressed.reserve(OUTPUT_CHUNK_LEN);
        let full = compressed.capacity();
        let consumed = compressor.total_in();
        let status = compressor.compress_vec(plain, &mut compressed, FlushCompress::Sync);
        debug_assert!(
            status.is_ok(),
            "compression into a buffer with free space cannot fail"
        );
        let consumed = (compressor.total_in() - consumed) as usize;
        plain = plain.get(consumed..).unwrap_or_default();
        if compressed.len() < full && (plain.is_empty() || consumed == 0) {
            return compressed;
        }
    }
}

thread_local! {
    /// The compressor of this thread while no message uses it: about 300 KiB, shared by all sessions.
    static IDLE_COMPRESSOR: RefCell<Option<Box<Compress>>> = const { RefCell::new(None) };
}

/// Minimum length of a message that is compressed; shorter ones would not become shorter.
const MIN_COMPRESSED_LEN: u64 = 16;

/// Half the CPU time of zlib's default level at nearly its ratio for typical server messages.
const LEVEL: Compression = Compression::new(4);

/// Bytes that are compressed at once, unless a frame ends before.
const CHUNK_LEN: usize = 8 * 1024;

/// Space that is reserved at least for compressed output.
const OUTPUT_CHUNK_LEN: usize = 4096;

/// Maximum length of a frame header (RFC 6455 §5.2).
const MAX_HEADER_LEN: usize = 14;
