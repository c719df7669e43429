//! Rate limit on a client by GCRA, a leaky bucket that needs no refilling: one second of silence restores the full
//! burst. The time is that of the poll, and no code here runs unless a rate is set. Times are whole nanoseconds since
//! the limiter's creation, because every message is checked and arithmetic with `Instant` is expensive.

use crate::proto::frame::Opcode;
use std::time::Duration;
use tokio::time::Instant;

/// What a client may send per second; after one second of silence the same amount may arrive in one burst.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RateLimit {
    /// Messages, Pings and unsolicited Pongs per second; 0: no limit.
    pub messages: u32,
    /// Frames per second: data frames, of which a message may have any number, and control frames except Pongs that
    /// answer our Pings; 0: no limit.
    pub frames: u32,
    /// Bytes of frames per second, headers included; 0: no limit.
    pub bytes: u64,
    /// Handling of a client that exceeds the rate.
    pub over: OverRateAction,
}

/// Handling of a client that exceeds its rate.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum OverRateAction {
    /// Reading is paused until the rate allows more: TCP flow control slows the client down.
    Pause,
    /// The session is closed.
    Close,
}

/// State of the rate limiter of one client for its [`RateLimit`].
#[derive(Debug)]
pub(crate) struct Gcra {
    rate: RateLimit,
    start: Instant,
    now: u64,
    /// Cost of one message, in nanoseconds; 0 if messages are not limited.
    message_cost: u64,
    /// Cost of one frame, in nanoseconds; 0 if frames are not limited.
    frame_cost: u64,
    /// Cost of one full read.
    full_read_cost: u64,
    /// The time up to which each limit is used up. Bytes wait while it is more than [`BURST`] ahead of `now`.
    messages: u64,
    frames: u64,
    bytes: u64,
    resumes: Option<u64>,
}

/// Decision about the next bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum RateDecision {
    Pass,
    /// The bytes must wait.
    Wait,
    /// The bytes exceed the rate, and the session must close.
    Over,
}

// === impl Gcra ===

impl Gcra {
    /// Creates a limiter with a full burst available; a read returns at most `max_read` bytes. `None` if there is no
    /// limit, so that no memory is held for it.
    pub(crate) fn new(rate: RateLimit, max_read: usize, now: Instant) -> Option<Box<Self>> {
        (rate.messages > 0 || rate.frames > 0 || rate.bytes > 0).then(|| {
            let cost_of_bytes = |bytes: u64| nanos(bytes).checked_div(rate.bytes);
            let cost_at = |per_second: u32| nanos(1).checked_div(per_second.into());
            Box::new(Gcra {
                rate,
                start: now,
                now: 0,
                message_cost: cost_at(rate.messages).unwrap_or_default(),
                frame_cost: cost_at(rate.frames).unwrap_or_default(),
                full_read_cost: cost_of_bytes(max_read as u64).unwrap_or_default() + 1,
                messages: 0,
                frames: 0,
                bytes: 0,
                resumes: None,
            })
        })
    }

    /// Sets the current time.
    pub(crate) fn set_clock(&mut self, now: Instant) {
        // Enough for 584 years.
        self.now = now.saturating_duration_since(self.start).as_nanos() as u64;
    }

    /// Returns how many bytes may be read now; `None` before [`Gcra::resumes`].
    pub(crate) fn available(&mut self) -> Option<usize> {
        if self.resumes.is_some_and(|at| self.now < at) {
            return None;
        }
        self.resumes = None;
        let left = BURST.saturating_sub(self.bytes.saturating_sub(self.now));
        // The usual case, which saves a 128-bit division.
        if left >= self.full_read_cost || self.rate.over == OverRateAction::Close {
            return Some(usize::MAX);
        }
        let available = u128::from(left) * u128::from(self.rate.bytes) / u128::from(SECOND);
        if available < u128::from(self.chunk()) {
            self.pause();
            return None;
        }
        Some(usize::try_from(available).unwrap_or(usize::MAX))
    }

    /// Returns the time until which the client is not read.
    pub(crate) fn resumes(&self) -> Option<Instant> {
        let resumes = self.resumes?;
        Some(self.start + Duration::from_nanos(resumes))
    }

    /// Decides about the next bytes; `first` is the first byte of a frame, if they begin with one. `counts_frames`:
    /// whether that frame is charged afterwards.
    pub(crate) fn decide(&mut self, first: Option<u8>, counts_frames: bool) -> RateDecision {
        // No charge exceeds a full burst.
        if self.messages <= self.now && self.frames <= self.now && self.bytes <= self.now {
            return RateDecision::Pass;
        }
        let (message, frame) = match first.map(Opcode::from_first_byte) {
            Some(Ok(Opcode::Text | Opcode::Binary | Opcode::Ping)) => {
                (self.message_cost, self.frame_cost)
            }
            Some(Ok(Opcode::Continuation)) => (0, self.frame_cost),
            _ => (0, 0),
        };
        let frame = if counts_frames { frame } else { 0 };
        let limit = self.now + BURST;
        if self.messages.max(self.now) + message <= limit
            && self.frames.max(self.now) + frame <= limit
            && self.bytes <= limit
        {
            return RateDecision::Pass;
        }
        match self.rate.over {
            OverRateAction::Close => RateDecision::Over,
            OverRateAction::Pause => {
                self.pause();
                RateDecision::Wait
            }
        }
    }

    /// Charges for relayed bytes, messages and frames.
    pub(crate) fn charge(&mut self, bytes: usize, messages: u64, frames: u64) {
        if let Some(cost) = nanos(bytes as u64).checked_div(self.rate.bytes) {
            self.bytes = self.bytes.max(self.now).saturating_add(cost);
        }
        let cost = self.message_cost.saturating_mul(messages);
        self.messages = self.messages.max(self.now).saturating_add(cost);
        let cost = self.frame_cost.saturating_mul(frames);
        self.frames = self.frames.max(self.now).saturating_add(cost);
    }

    /// Pauses reading until at least one [`STEP`] is available: a client far over its rate would otherwise be checked
    /// for every message.
    fn pause(&mut self) {
        let mut resumes = self.bytes;
        if self.rate.bytes > 0 {
            // Rounded up, so that the amount is available after the pause.
            let chunk = nanos(self.chunk()).div_ceil(self.rate.bytes);
            resumes = resumes.saturating_add(chunk);
        }
        if self.rate.messages > 0 {
            resumes = resumes.max(self.messages + self.message_cost.max(STEP));
        }
        if self.rate.frames > 0 {
            resumes = resumes.max(self.frames + self.frame_cost.max(STEP));
        }
        self.resumes = Some(resumes.saturating_sub(BURST));
    }

    /// Returns the minimum number of bytes that is worth a read.
    fn chunk(&self) -> u64 {
        (self.rate.bytes / STEPS).max(1)
    }
}

/// Returns the cost of `amount` at a rate of one per second. It saturates only beyond 2³⁴ bytes, more than
/// a read returns.
fn nanos(amount: u64) -> u64 {
    amount.saturating_mul(SECOND)
}

const SECOND: u64 = 1_000_000_000;

/// Maximum burst, in nanoseconds.
const BURST: u64 = SECOND;

/// A paused client is checked at most [`STEPS`] times per second.
const STEP: u64 = SECOND / STEPS;

const STEPS: u64 = 50;
