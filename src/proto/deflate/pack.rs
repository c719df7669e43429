//! To a client: plain messages become compressed ones, where that is worth it.

use super::{Agreement, TAIL, agreement::LARGEST, put};
use crate::proto::frame::{Header, Opcode, RSV1};
use flate2::{Compress, Compression, FlushCompress};
use std::cell::RefCell;

/// A backend's frames, which were found right before, on their way to a client that inflates.
#[derive(Debug)]
pub struct Deflating {
    agreement: Agreement,
    /// The beginning of a header whose end is yet to come.
    held: Vec<u8>,
    frame: Option<Frame>,
    message: Option<Message>,
}

#[derive(Debug, Clone, Copy)]
struct Frame {
    /// Payload that is still to come.
    left: u64,
    is_control: bool,
    fin: bool,
}

#[derive(Debug)]
enum Message {
    /// It is as short compressed as it is.
    Plain,
    Deflated(Deflated),
}

#[derive(Debug)]
struct Deflated {
    compressor: Box<Compress>,
    /// Of the next frame that goes out.
    opcode: Opcode,
    rsv: u8,
    /// Compressed, and in no frame yet.
    packed: Vec<u8>,
}

// === impl Deflating ===

impl Deflating {
    /// At the start of a stream.
    pub fn new(agreement: Agreement) -> Self {
        Deflating {
            agreement,
            held: Vec::new(),
            frame: None,
            message: None,
        }
    }

    /// Takes all of `input`; what is to go out stands behind what is in `out`: about as much at most, and what was kept of
    /// the message so far.
    pub fn advance(&mut self, mut input: &[u8], out: &mut Vec<u8>) {
        loop {
            match self.frame {
                None => match self.enter(input, out) {
                    Some(rest) => input = rest,
                    None => return,
                },
                Some(Frame { left: 0, .. }) => self.leave(out),
                Some(_) if input.is_empty() => return,
                Some(frame) => {
                    let left = usize::try_from(frame.left).unwrap_or(usize::MAX);
                    let (here, rest) = input.split_at(left.min(input.len()));
                    match &mut self.message {
                        Some(Message::Deflated(message)) if !frame.is_control => {
                            message.feed(here, FlushCompress::None);
                            message.emit_what_is_whole(out);
                        }
                        _ => out.extend_from_slice(here),
                    }
                    self.frame = Some(Frame {
                        left: frame.left - here.len() as u64,
                        ..frame
                    });
                    input = rest;
                }
            }
        }
    }

    /// Reads a header, and returns what stands behind it.
    fn enter<'a>(&mut self, input: &'a [u8], out: &mut Vec<u8>) -> Option<&'a [u8]> {
        let before = self.held.len();
        self.held
            .extend_from_slice(input.get(..LONGEST.min(input.len()))?);
        let Ok(Some(header)) = Header::parse(&self.held) else {
            return None;
        };
        let is_control = header.opcode.is_control();
        if matches!(header.opcode, Opcode::Text | Opcode::Binary) {
            let is_short = header.fin && header.payload_len < SHORT;
            self.message = Some(match is_short {
                true => Message::Plain,
                false => Message::Deflated(Deflated::begin(header.opcode, self.agreement)),
            });
        }
        if is_control || matches!(self.message, Some(Message::Plain)) {
            out.extend_from_slice(self.held.get(..header.len)?);
        }
        self.held = Vec::new();
        self.frame = Some(Frame {
            left: header.payload_len,
            is_control,
            fin: header.fin,
        });
        input.get(header.len - before..)
    }

    /// The end of a frame: what was said so far is for the client now, and perhaps it is the end of a message.
    fn leave(&mut self, out: &mut Vec<u8>) {
        let Some(frame) = self.frame.take().filter(|frame| !frame.is_control) else {
            return;
        };
        if let Some(Message::Deflated(message)) = &mut self.message {
            message.feed(&[], FlushCompress::Sync);
            if frame.fin {
                // RFC 7692 §7.2.1: the tail of a flush does not travel.
                let len = message.packed.len().saturating_sub(TAIL.len());
                message.packed.truncate(len);
            }
            message.emit(frame.fin, out);
        }
        if frame.fin
            && let Some(Message::Deflated(message)) = self.message.take()
        {
            message.end(self.agreement);
        }
    }
}

// === impl Deflated ===

impl Deflated {
    fn begin(opcode: Opcode, agreement: Agreement) -> Self {
        let idle = match agreement.ours {
            None => IDLE.with_borrow_mut(Option::take),
            Some(_) => None,
        };
        let bits = agreement.ours.unwrap_or(LARGEST);
        let fresh = || Box::new(Compress::new_with_window_bits(LEVEL, false, bits));
        Deflated {
            compressor: idle.unwrap_or_else(fresh),
            opcode,
            rsv: RSV1,
            packed: Vec::new(),
        }
    }

    /// The next message of this thread, whoever's it is, has its room again.
    fn end(mut self, agreement: Agreement) {
        if agreement.ours.is_none() {
            self.compressor.reset();
            IDLE.with_borrow_mut(|idle| *idle = Some(self.compressor));
        }
    }

    fn feed(&mut self, mut bytes: &[u8], flush: FlushCompress) {
        loop {
            // Not into an array: that would be zeroed each time.
            self.packed.reserve(ROOM);
            let full = self.packed.capacity();
            let taken = self.compressor.total_in();
            let status = self.compressor.compress_vec(bytes, &mut self.packed, flush);
            debug_assert!(status.is_ok(), "it has a buffer, and bytes are bytes");
            let taken = (self.compressor.total_in() - taken) as usize;
            bytes = bytes.get(taken..).unwrap_or_default();
            if self.packed.len() < full && (bytes.is_empty() || taken == 0) {
                return;
            }
        }
    }

    /// What came of much is sent before there is more of it.
    fn emit_what_is_whole(&mut self, out: &mut Vec<u8>) {
        if self.packed.len() >= PIECE {
            self.emit(false, out);
        }
    }

    fn emit(&mut self, fin: bool, out: &mut Vec<u8>) {
        put(out, fin, self.rsv, self.opcode, None, &mut self.packed);
        (self.rsv, self.opcode) = (0, Opcode::Continuation);
        self.packed = Vec::new();
    }
}

thread_local! {
    /// The compressor of this thread, while no message uses it: some 300 KiB that no session has to itself.
    static IDLE: RefCell<Option<Box<Compress>>> = const { RefCell::new(None) };
}

/// A few bytes do not become fewer.
const SHORT: u64 = 16;

/// Half the work of zlib's default, and nearly its ratio on what servers say.
const LEVEL: Compression = Compression::new(4);

/// What goes out in a frame before its message is whole.
const PIECE: usize = 16 * 1024;

/// What is compressed at a time.
const ROOM: usize = 4096;

/// A header (RFC 6455 §5.2).
const LONGEST: usize = 14;
