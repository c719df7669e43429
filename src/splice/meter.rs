//! How much a client may send: accounts that a second of silence clears, in whole nanoseconds (GCRA, a leaky bucket that
//! needs no refilling). The clock is the one of the poll; nothing here is asked unless a rate is set.

use crate::proto::frame::Opcode;
use std::time::Duration;
use tokio::time::Instant;

/// What a client may send in a second; as much again may come at once after a quiet second.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Rate {
    /// Messages, Pings, and Pongs that nobody here asked for; 0: no limit.
    pub messages: u32,
    /// Bytes of frames, headers included; 0: no limit.
    pub bytes: u64,
    /// What becomes of who sends more.
    pub over: OverRate,
}

/// What becomes of a client that sends more than it may.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum OverRate {
    /// It is not read until it may go on: TCP slows it down.
    Pause,
    /// Its session is closed.
    Close,
}

/// What a client has sent, against its [`Rate`].
#[derive(Debug)]
pub(super) struct Meter {
    rate: Rate,
    /// Of one message; nothing where they are not limited.
    price: Duration,
    /// Of as much as one read may bring.
    whole_read: Duration,
    /// Until when each has been used up: at most [`BURST`] ahead of the clock, or nothing more may pass.
    messages: Instant,
    bytes: Instant,
    resumes: Option<Instant>,
}

/// What becomes of the next bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Verdict {
    Pass,
    /// Not yet.
    Wait,
    /// Never: it is too much.
    Over,
}

// === impl Meter ===

impl Meter {
    /// Nothing has been sent yet. `None` where there is no limit: then nothing is held for it.
    pub(super) fn new(rate: Rate, now: Instant) -> Option<Box<Self>> {
        (rate.messages > 0 || rate.bytes > 0).then(|| {
            let of_bytes = |bytes: u64| nanos(bytes).checked_div(rate.bytes);
            let of_messages = |messages: u64| nanos(messages).checked_div(rate.messages.into());
            Box::new(Meter {
                rate,
                price: Duration::from_nanos(of_messages(1).unwrap_or_default()),
                whole_read: Duration::from_nanos(of_bytes(MOST_READ).unwrap_or_default() + 1),
                messages: now,
                bytes: now,
                resumes: None,
            })
        })
    }

    /// How many bytes may be read now; `None` before [`Meter::resumes`].
    pub(super) fn room(&mut self, now: Instant) -> Option<usize> {
        if self.resumes.is_some_and(|at| now < at) {
            return None;
        }
        self.resumes = None;
        if self.rate.bytes == 0 || self.rate.over == OverRate::Close {
            return Some(usize::MAX);
        }
        let left = BURST.saturating_sub(self.bytes.saturating_duration_since(now));
        // Mostly so, and it saves a division of 128 bits.
        if left >= self.whole_read {
            return Some(usize::MAX);
        }
        let room = left.as_nanos() * u128::from(self.rate.bytes) / u128::from(SECOND);
        if room < u128::from(self.chunk()) {
            self.wait();
            return None;
        }
        Some(usize::try_from(room).unwrap_or(usize::MAX))
    }

    /// Until when the client is not read.
    pub(super) fn resumes(&self) -> Option<Instant> {
        self.resumes
    }

    /// What becomes of the bytes that come next; `first` is the first byte of a frame, if they begin with one.
    pub(super) fn judge(&mut self, first: Option<u8>, now: Instant) -> Verdict {
        let price = match first.map(Opcode::from_first_byte) {
            Some(Ok(Opcode::Text | Opcode::Binary | Opcode::Ping)) => self.price,
            _ => Duration::ZERO,
        };
        // Nothing costs more than all that may come at once.
        let is_quiet = self.messages <= now && self.bytes <= now;
        if is_quiet || self.messages.max(now) + price <= now + BURST && self.bytes <= now + BURST {
            return Verdict::Pass;
        }
        match self.rate.over {
            OverRate::Close => Verdict::Over,
            OverRate::Pause => {
                self.wait();
                Verdict::Wait
            }
        }
    }

    /// So many bytes and messages have passed.
    pub(super) fn charge(&mut self, bytes: usize, messages: u64, now: Instant) {
        if let Some(price) = nanos(bytes as u64).checked_div(self.rate.bytes) {
            self.bytes = self.bytes.max(now) + Duration::from_nanos(price);
        }
        for _ in 0..messages {
            self.messages = self.messages.max(now) + self.price;
        }
    }

    /// Not before there is room for [`STEP`]'s worth: who is far ahead would else be looked at for every message.
    fn wait(&mut self) {
        let mut resumes = self.bytes;
        if self.rate.bytes > 0 {
            // Rounded up: whoever waits so long has it.
            resumes += Duration::from_nanos(nanos(self.chunk()).div_ceil(self.rate.bytes));
        }
        if self.rate.messages > 0 {
            resumes = resumes.max(self.messages + self.price.max(STEP));
        }
        self.resumes = resumes.checked_sub(BURST);
    }

    /// The least that is worth a read.
    fn chunk(&self) -> u64 {
        (self.rate.bytes / STEPS).max(1)
    }
}

/// What so much would cost at one a second. A read is at most 64 KiB, so it does not overflow.
fn nanos(amount: u64) -> u64 {
    amount.saturating_mul(SECOND)
}

const SECOND: u64 = 1_000_000_000;
/// What a pump reads at a time.
const MOST_READ: u64 = 64 * 1024;
/// What may come at once.
const BURST: Duration = Duration::from_secs(1);
/// A paused client is looked at [`STEPS`] times a second at most.
const STEP: Duration = Duration::from_millis(20);
const STEPS: u64 = 50;
