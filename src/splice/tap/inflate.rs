//! permessage-deflate, undone for those who look (RFC 7692 §7.2.2): bounded in place, in size and in number.

use flate2::{Decompress, FlushDecompress, Status};
use tokio::sync::{Semaphore, SemaphorePermit};

/// Of one direction.
pub(super) struct Inflater {
    state: State,
    /// Each message stands for itself.
    forgets: bool,
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
pub(super) struct Inflated {
    pub(super) size: u64,
    pub(super) head: Vec<u8>,
    /// Nothing that it refers to is missing.
    pub(super) whole: bool,
}

enum State {
    /// Nothing compressed has come.
    Idle,
    Working(
        Box<Decompress>,
        #[expect(dead_code, reason = "held")] SemaphorePermit<'static>,
    ),
    /// There is too much, or something is wrong with it.
    Broken,
}

// === impl Inflater ===

impl Inflater {
    pub(super) fn new(forgets: bool, whole: bool) -> Inflater {
        Inflater {
            state: State::Idle,
            forgets,
            whole: whole || forgets,
            message: 0,
            total: 0,
            size: 0,
            head: Vec::new(),
        }
    }

    /// Whether it has a use for more.
    pub(super) fn is_working(&self) -> bool {
        !matches!(self.state, State::Broken)
    }

    /// A message begins.
    pub(super) fn begin(&mut self) {
        self.message = 0;
        self.size = 0;
        self.head.clear();
        self.whole |= self.total >= WINDOW as u64;
        match &mut self.state {
            State::Working(decompress, _) if self.forgets => decompress.reset(false),
            State::Broken if self.forgets => self.state = State::Idle,
            _ => {}
        }
    }

    /// Inflates some of a message's payload, of which so many bytes are wanted.
    pub(super) fn take(&mut self, bytes: &[u8], wanted: usize) {
        if matches!(self.state, State::Idle) {
            self.state = self.start();
        }
        let State::Working(decompress, _) = &mut self.state else {
            return;
        };
        let mut room = [0; ROOM];
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
                    (self.whole, self.total) = (self.forgets, 0);
                }
                _ => {
                    self.state = State::Broken;
                    return;
                }
            }
            if (rest.is_empty() && given < ROOM) || (taken == 0 && given == 0) {
                return;
            }
        }
    }

    /// A frame has passed; `None` where it cannot be said what was in it.
    pub(super) fn frame(&mut self, fin: bool, wanted: usize) -> Option<Inflated> {
        if fin {
            self.take(TAIL, wanted);
        }
        let inflated = Inflated {
            size: std::mem::take(&mut self.size),
            head: std::mem::take(&mut self.head),
            whole: self.whole,
        };
        self.is_working().then_some(inflated)
    }

    fn start(&self) -> State {
        let Ok(place) = PLACES.try_acquire() else {
            return State::Broken;
        };
        // The largest window takes what smaller ones have made.
        let mut decompress = Box::new(Decompress::new(false));
        if !self.whole && decompress.set_dictionary(&[b'?'; WINDOW]).is_err() {
            return State::Broken;
        }
        State::Working(decompress, place)
    }
}

/// RFC 7692 §7.2.2: what a compressor leaves away at the end of a message.
const TAIL: &[u8] = &[0x00, 0x00, 0xFF, 0xFF];

/// RFC 1951 §2: how far back anything can refer. What was not seen is shown as question marks.
const WINDOW: usize = 32 * 1024;

/// What is inflated of a message: a small one can hide much (1000 to 1).
const MESSAGE: u64 = 1024 * 1024;

/// What is inflated at once.
const ROOM: usize = 4096;

/// Directions at a time, each with a window and tables: 4 MiB in all.
static PLACES: Semaphore = Semaphore::const_new(64);
