//! Inflation of permessage-deflate for tap subscribers (RFC 7692 §7.2.2), with bounds on memory, output and number.

use flate2::{Decompress, FlushDecompress, Status};
use tokio::sync::{Semaphore, SemaphorePermit};

/// The inflater of one direction.
pub(super) struct TapInflater {
    state: TapInflateState,
    /// Whether each message is compressed independently of the previous ones.
    no_context_takeover: bool,
    /// Whether all messages so far were processed.
    complete: bool,
    /// Inflated bytes of the current message so far.
    message_len: u64,
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
    pub(super) complete: bool,
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
    pub(super) fn new(no_context_takeover: bool, complete: bool) -> TapInflater {
        TapInflater {
            state: TapInflateState::Idle,
            no_context_takeover,
            complete: complete || no_context_takeover,
            message_len: 0,
            total: 0,
            size: 0,
            head: Vec::new(),
        }
    }

    /// Returns whether further input is inflated.
    pub(super) fn is_working(&self) -> bool {
        !matches!(self.state, TapInflateState::Broken)
    }

    /// Starts a new message.
    pub(super) fn begin_message(&mut self) {
        self.message_len = 0;
        self.size = 0;
        self.head.clear();
        self.complete |= self.total >= WINDOW as u64;
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

    /// Inflates part of a message's payload; the first `head_len` bytes of a frame's output are kept.
    pub(super) fn inflate(&mut self, bytes: &[u8], head_len: usize) {
        if matches!(self.state, TapInflateState::Idle) {
            self.state = self.start();
        }
        let TapInflateState::Working(decompress, _) = &mut self.state else {
            return;
        };
        let mut buf = [0; CHUNK_LEN];
        let mut rest = bytes;
        loop {
            let (consumed, produced) = (decompress.total_in(), decompress.total_out());
            let done = decompress.decompress(rest, &mut buf, FlushDecompress::Sync);
            let consumed = (decompress.total_in() - consumed) as usize;
            let produced = (decompress.total_out() - produced) as usize;
            rest = rest.get(consumed..).unwrap_or_default();
            let output = buf.get(..produced).unwrap_or_default();
            let missing = head_len.saturating_sub(self.head.len()).min(produced);
            self.head
                .extend_from_slice(output.get(..missing).unwrap_or_default());
            self.size += produced as u64;
            self.message_len += produced as u64;
            self.total += produced as u64;
            match done {
                Ok(Status::Ok | Status::BufError) if self.message_len <= MAX_MESSAGE_LEN => {}
                // RFC 7692 §7.2.3.4: a message may end with a final block; the next data starts a new stream.
                Ok(Status::StreamEnd) if self.message_len <= MAX_MESSAGE_LEN => {
                    decompress.reset(false);
                    (self.complete, self.total) = (self.no_context_takeover, 0);
                }
                _ => {
                    self.state = TapInflateState::Broken;
                    return;
                }
            }
            if (rest.is_empty() && produced < CHUNK_LEN) || (consumed == 0 && produced == 0) {
                return;
            }
        }
    }

    /// Ends a frame; returns `None` if its content is unknown.
    pub(super) fn end_frame(&mut self, fin: bool, head_len: usize) -> Option<InflatedFrame> {
        if fin {
            self.inflate(TAIL, head_len);
        }
        let inflated = InflatedFrame {
            size: std::mem::take(&mut self.size),
            head: std::mem::take(&mut self.head),
            complete: self.complete,
        };
        self.is_working().then_some(inflated)
    }

    fn start(&self) -> TapInflateState {
        let Ok(permit) = INFLATER_SLOTS.try_acquire() else {
            return TapInflateState::Broken;
        };
        // The largest window also inflates data of smaller windows.
        let mut decompress = Box::new(Decompress::new(false));
        if !self.complete && decompress.set_dictionary(&[b'?'; WINDOW]).is_err() {
            return TapInflateState::Broken;
        }
        TapInflateState::Working(decompress, permit)
    }
}

/// RFC 7692 §7.2.2: the bytes that a compressor removes at the end of a message.
const TAIL: &[u8] = &[0x00, 0x00, 0xFF, 0xFF];

/// RFC 1951 §2: the maximum distance of a back-reference. Unknown bytes are displayed as question marks.
const WINDOW: usize = 32 * 1024;

/// Maximum inflated length of a message: the compression ratio can reach 1000 to 1.
const MAX_MESSAGE_LEN: u64 = 1024 * 1024;

/// Bytes that are inflated at once.
const CHUNK_LEN: usize = 4096;

/// Maximum number of directions inflated concurrently, each with a window and tables: 4 MiB in all.
static INFLATER_SLOTS: Semaphore = Semaphore::const_new(64);
