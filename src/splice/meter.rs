//! How much a client may send: accounts that a second of silence clears, in whole nanoseconds (GCRA, a leaky bucket that
//! needs no refilling). The clock is the one of the poll; nothing here is asked unless a rate is set. It counts whole
//! nanoseconds since the meter's start, for it is asked for every message: an `Instant` is dear to reckon with.

use super::pump::READ_BUF_LEN;
use crate::proto::frame::Opcode;
use std::time::Duration;
use tokio::time::Instant;

/// What a client may send in a second; as much again may come at once after a quiet second.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RateLimit {
    /// Messages, Pings, and Pongs that nobody here asked for; 0: no limit.
    pub messages: u32,
    /// Bytes of frames, headers included; 0: no limit.
    pub bytes: u64,
    /// What becomes of who sends more.
    pub over: OverRateAction,
}

/// What becomes of a client that sends more than it may.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum OverRateAction {
    /// It is not read until it may go on: TCP slows it down.
    Pause,
    /// Its session is closed.
    Close,
}

/// What a client has sent, against its [`Rate`].
#[derive(Debug)]
pub(super) struct Gcra {
    rate: RateLimit,
    start: Instant,
    now: u64,
    /// Of one message; nothing where they are not limited.
    message_cost: u64,
    /// Of as much as one read may bring.
    full_read_cost: u64,
    /// Until when each has been used up: at most [`BURST`] ahead of the clock, or nothing more may pass.
    messages: u64,
    bytes: u64,
    resumes: Option<u64>,
}

/// What becomes of the next bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum RateDecision {
    Pass,
    /// Not yet.
    Wait,
    /// Never: it is too much.
    Over,
}

// === impl Gcra ===

impl Gcra {
    /// Nothing has been sent yet. `None` where there is no limit: then nothing is held for it.
    pub(super) fn new(rate: RateLimit, now: Instant) -> Option<Box<Self>> {
        (rate.messages > 0 || rate.bytes > 0).then(|| {
            let of_bytes = |bytes: u64| nanos(bytes).checked_div(rate.bytes);
            let of_messages = |messages: u64| nanos(messages).checked_div(rate.messages.into());
            Box::new(Gcra {
                rate,
                start: now,
                now: 0,
                message_cost: of_messages(1).unwrap_or_default(),
                full_read_cost: of_bytes(READ_BUF_LEN as u64).unwrap_or_default() + 1,
                messages: 0,
                bytes: 0,
                resumes: None,
            })
        })
    }

    /// From now on it is so late.
    pub(super) fn set_clock(&mut self, now: Instant) {
        // Enough for 584 years.
        self.now = now.saturating_duration_since(self.start).as_nanos() as u64;
    }

    /// How many bytes may be read now; `None` before [`Meter::resumes`].
    pub(super) fn available(&mut self) -> Option<usize> {
        if self.resumes.is_some_and(|at| self.now < at) {
            return None;
        }
        self.resumes = None;
        let left = BURST.saturating_sub(self.bytes.saturating_sub(self.now));
        // Mostly so, and it saves a division of 128 bits.
        if left >= self.full_read_cost || self.rate.over == OverRateAction::Close {
            return Some(usize::MAX);
        }
        let room = u128::from(left) * u128::from(self.rate.bytes) / u128::from(SECOND);
        if room < u128::from(self.chunk()) {
            self.wait();
            return None;
        }
        Some(usize::try_from(room).unwrap_or(usize::MAX))
    }

    /// Until when the client is not read.
    pub(super) fn resumes(&self) -> Option<Instant> {
        let resumes = self.resumes?;
        Some(self.start + Duration::from_nanos(resumes))
    }

    /// What becomes of the bytes that come next; `first` is the first byte of a frame, if they begin with one.
    pub(super) fn decide(&mut self, first: Option<u8>) -> RateDecision {
        // Nothing costs more than all that may come at once.
        if self.messages <= self.now && self.bytes <= self.now {
            return RateDecision::Pass;
        }
        let price = match first.map(Opcode::from_first_byte) {
            Some(Ok(Opcode::Text | Opcode::Binary | Opcode::Ping)) => self.message_cost,
            _ => 0,
        };
        let most = self.now + BURST;
        if self.messages.max(self.now) + price <= most && self.bytes <= most {
            return RateDecision::Pass;
        }
        match self.rate.over {
            OverRateAction::Close => RateDecision::Over,
            OverRateAction::Pause => {
                self.wait();
                RateDecision::Wait
            }
        }
    }

    /// So many bytes and messages have passed.
    pub(super) fn charge(&mut self, bytes: usize, messages: u64) {
        if let Some(price) = nanos(bytes as u64).checked_div(self.rate.bytes) {
            self.bytes = self.bytes.max(self.now).saturating_add(price);
        }
        let price = self.message_cost.saturating_mul(messages);
        self.messages = self.messages.max(self.now).saturating_add(price);
    }

    /// Not before there is room for [`STEP`]'s worth: who is far ahead would else be looked at for every message.
    fn wait(&mut self) {
        let mut resumes = self.bytes;
        if self.rate.bytes > 0 {
            // Rounded up: whoever waits so long has it.
            let chunk = nanos(self.chunk()).div_ceil(self.rate.bytes);
            resumes = resumes.saturating_add(chunk);
        }
        if self.rate.messages > 0 {
            resumes = resumes.max(self.messages + self.message_cost.max(STEP));
        }
        self.resumes = Some(resumes.saturating_sub(BURST));
    }

    /// The least that is worth a read.
    fn chunk(&self) -> u64 {
        (self.rate.bytes / STEPS).max(1)
    }
}

/// What so much would cost at one a second. A read is at most [`READ`], so it does not overflow.
fn nanos(amount: u64) -> u64 {
    amount.saturating_mul(SECOND)
}

const SECOND: u64 = 1_000_000_000;
/// What may come at once.
const BURST: u64 = SECOND;
/// A paused client is looked at [`STEPS`] times a second at most.
const STEP: u64 = SECOND / STEPS;
const STEPS: u64 = 50;
