//! Inflation of permessage-deflate for tap subscribers (RFC 7692 §7.2.2), with bounds on memory, output and number.

use flate2::{Decompress, FlushDecompress, Status};
use tokio::sync::{Semaphore, SemaphorePermit};

/// The inflater of one direction.
pub(super) struct TapInflater {
    state: TapInflateState,
    /// Whether each message is compressed independently of the previous ones.
    no_context_takeover: bool,
    /// Whether all messages so far were processed.
    whole: bool,
    /// Inflated bytes of the current message so far.
    message: u64,
    /// All inflated bytes that back-references may point to.
    total: u64,
    /// Inflated bytes of the current frame.
    size: u64,
    head: Vec<u8>,
}

/// The inflated part of a message that one frame carries.
pub(super) struct InflatedFrame {
    pub(super) size: u64,
    pub(super) head: Vec<u8>,
    /// Whether all data that it refers to is known.
    pub(super) whole: bool,
}

enum TapInflateState {
    /// No compressed frame has arrived.
    Idle,
    Working(
        Box<Decompress>,
        #[expect(dead_code, reason = "held")] SemaphorePermit<'static>,
    ),
    /// The data is invalid or exceeds a bound.
    Broken,
}

// === impl TapInflater ===

impl TapInflater {
    pub(super) fn new(no_context_takeover: bool, whole: bool) -> TapInflater {
        TapInflater {
            state: TapInflateState::Idle,
            no_context_takeover,
            whole: whole || no_context_takeover,
            message: 0,
            total: 0,
            size: 0,
            head: Vec::new(),
        }
    }

    /// Returns whether it processes further input.
    pub(super) fn is_working(&self) -> bool {
        !matches!(self.state, TapInflateState::Broken)
    }

    /// Starts a new message.
    pub(super) fn begin(&mut self) {
        self.message = 0;
        self.size = 0;
        self.head.clear();
        self.whole |= self.total >= WINDOW as u64;
        match &mut self.state {
            TapInflateState::Working(decompress, _) if self.no_context_takeover => {
                decompress.reset(false)
            }
            TapInflateState::Broken if self.no_context_takeover => {
                self.state = TapInflateState::Idle
            }
            _ => {}
        }
    }

    /// Inflates part of a message's payload and keeps up to `wanted` bytes of output.
    pub(super) fn take(&mut self, bytes: &[u8], wanted: usize) {
        if matches!(self.state, TapInflateState::Idle) {
            self.state = self.start();
        }
        let TapInflateState::Working(decompress, _) = &mut self.state else {
            return;
        };
        let mut room = [0; CHUNK_LEN];
        let mut rest = bytes;
        loop {
            let (taken, given) = (decompress.total_in(), decompress.total_out());
            let done = decompress.decompress(rest, &mut room, FlushDecompress::Sync);
            let taken = (decompress.total_in() - taken) as usize;
            let given = (decompress.total_out() - given) as usize;
            rest = rest.get(taken..).unwrap_or_default();
            let some = room.get(..given).unwrap_or_default();
            let missing = wanted.saturating_sub(self.head.len()).min(given);
            self.head
                .extend_from_slice(some.get(..missing).unwrap_or_default());
            self.size += given as u64;
            self.message += given as u64;
            self.total += given as u64;
            match done {
                Ok(Status::Ok | Status::BufError) if self.message <= MESSAGE => {}
                // RFC 7692 §7.2.3.4: a message may end with a final block; the next data starts a new stream.
                Ok(Status::StreamEnd) if self.message <= MESSAGE => {
                    decompress.reset(false);
                    (self.whole, self.total) = (self.no_context_takeover, 0);
                }
                _ => {
                    self.state = TapInflateState::Broken;
                    return;
                }
            }
            if (rest.is_empty() && given < CHUNK_LEN) || (taken == 0 && given == 0) {
                return;
            }
        }
    }

    /// Ends a frame; returns `None` if its content is unknown.
    pub(super) fn frame(&mut self, fin: bool, wanted: usize) -> Option<InflatedFrame> {
        if fin {
            self.take(TAIL, wanted);
        }
        let inflated = InflatedFrame {
            size: std::mem::take(&mut self.size),
            head: std::mem::take(&mut self.head),
            whole: self.whole,
        };
        self.is_working().then_some(inflated)
    }

    fn start(&self) -> TapInflateState {
        let Ok(place) = INFLATER_SLOTS.try_acquire() else {
            return TapInflateState::Broken;
        };
        // The largest window also inflates data of smaller windows.
        let mut decompress = Box::new(Decompress::new(false));
        if !self.whole && decompress.set_dictionary(&[b'?'; WINDOW]).is_err() {
            return TapInflateState::Broken;
        }
        TapInflateState::Working(decompress, place)
    }
}

/// RFC 7692 §7.2.2: the bytes that a compressor removes at the end of a message.
const TAIL: &[u8] = &[0x00, 0x00, 0xFF, 0xFF];

/// RFC 1951 §2: the maximum distance of a back-reference. Unknown bytes are displayed as question marks.
const WINDOW: usize = 32 * 1024;

/// Maximum inflated length of a message: the compression ratio can reach 1000 to 1.
const MESSAGE: u64 = 1024 * 1024;

/// Bytes that are inflated at once.
const CHUNK_LEN: usize = 4096;

/// Maximum number of directions inflated concurrently, each with a window and tables: 4 MiB in all.
static INFLATER_SLOTS: Semaphore = Semaphore::const_new(64);
