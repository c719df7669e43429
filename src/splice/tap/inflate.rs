//! permessage-deflate, undone for those who look (RFC 7692 §7.2.2): bounded in place, in size and in number.

use flate2::{Decompress, FlushDecompress, Status};
use tokio::sync::{Semaphore, SemaphorePermit};

/// Of one direction.
pub(super) struct TapInflater {
    state: TapInflateState,
    /// Each message stands for itself.
    no_context_takeover: bool,
    /// Nothing passed that it has not seen.
    whole: bool,
    /// Bytes that the message has given so far.
    message: u64,
    /// All bytes that anything may refer to.
    total: u64,
    /// Of the frame.
    size: u64,
    head: Vec<u8>,
}

/// A frame's part of a message.
pub(super) struct InflatedFrame {
    pub(super) size: u64,
    pub(super) head: Vec<u8>,
    /// Nothing that it refers to is missing.
    pub(super) whole: bool,
}

enum TapInflateState {
    /// Nothing compressed has come.
    Idle,
    Working(
        Box<Decompress>,
        #[expect(dead_code, reason = "held")] SemaphorePermit<'static>,
    ),
    /// There is too much, or something is wrong with it.
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

    /// Whether it has a use for more.
    pub(super) fn is_working(&self) -> bool {
        !matches!(self.state, TapInflateState::Broken)
    }

    /// A message begins.
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

    /// Inflates some of a message's payload, of which so many bytes are wanted.
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
                // RFC 7692 §7.2.3.4: a message may end with a last block; what follows begins anew.
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

    /// A frame has passed; `None` where it cannot be said what was in it.
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
        // The largest window takes what smaller ones have made.
        let mut decompress = Box::new(Decompress::new(false));
        if !self.whole && decompress.set_dictionary(&[b'?'; WINDOW]).is_err() {
            return TapInflateState::Broken;
        }
        TapInflateState::Working(decompress, place)
    }
}

/// RFC 7692 §7.2.2: what a compressor leaves away at the end of a message.
const TAIL: &[u8] = &[0x00, 0x00, 0xFF, 0xFF];

/// RFC 1951 §2: how far back anything can refer. What was not seen is shown as question marks.
const WINDOW: usize = 32 * 1024;

/// What is inflated of a message: a small one can hide much (1000 to 1).
const MESSAGE: u64 = 1024 * 1024;

/// What is inflated at once.
const CHUNK_LEN: usize = 4096;

/// Directions at a time, each with a window and tables: 4 MiB in all.
static INFLATER_SLOTS: Semaphore = Semaphore::const_new(64);
