//! Whether a peer is alive, from what passes by; a Ping of our own only when nothing does.
//!
//! Any byte received proves life. After `interval` of silence a question is out: our Ping, or a relayed one that still
//! waits for its answer (a peer may answer only the latest, RFC 6455 §5.5.3, so a second one would eat the first one's
//! answer), or, when the pipe towards the peer is full, the bytes in it. `timeout` later the peer is dead, unless the
//! kernel took more of our bytes in between. While back-pressure, or the client's
//! rate, keeps us from reading the leg, time stands still.

use super::{PingPolicy, random::random_bytes};
use crate::proto::frame::ControlFrame;
use std::time::Duration;
use tokio::time::Instant;

/// The liveness of one leg.
pub(super) struct Keepalive {
    heard: Instant,
    question: PingState,
    /// A relayed Ping has not been answered.
    relayed: bool,
    /// What the kernel had taken when we last looked.
    taken: u64,
    /// Since when we do not read the leg.
    frozen: Option<Instant>,
    /// Marks our Pings; drawn when the first is sent.
    tag: Option<[u8; 8]>,
    pings: u32,
    trip: RttSample,
}

#[derive(Clone, Copy, PartialEq)]
enum PingState {
    None,
    /// Our Ping waits for the end of the current frame; the peer cannot be blamed for that.
    Due,
    /// Asked at that moment; an answer is awaited.
    Outstanding(Instant),
    /// Our Ping cannot be sent, for the pipe towards the peer is full since that moment.
    Blocked(Instant),
}

/// Our latest Ping, to its Pong.
#[derive(Clone, Copy)]
enum RttSample {
    None,
    Out(Instant),
    Back(Duration),
}

// === impl Keepalive ===

impl Keepalive {
    pub(super) fn new(now: Instant, taken: u64) -> Self {
        Keepalive {
            heard: now,
            question: PingState::None,
            relayed: false,
            taken,
            frozen: None,
            tag: None,
            pings: 0,
            trip: RttSample::None,
        }
    }

    /// A byte arrived.
    pub(super) fn on_bytes(&mut self, now: Instant) {
        self.heard = now;
        self.question = PingState::None;
    }

    /// A Ping of the other peer was relayed to this leg.
    pub(super) fn relayed_ping(&mut self) {
        self.relayed = true;
    }

    /// A Pong came that is not the answer to ours, so it answers what was relayed, or nothing.
    pub(super) fn foreign_pong(&mut self) {
        self.relayed = false;
    }

    /// Whether `payload` is that of a Ping of ours.
    pub(super) fn is_own(&self, payload: &[u8]) -> bool {
        self.tag
            .is_some_and(|tag| payload.len() == 12 && payload[..8] == tag)
    }

    /// The Pong came that answers a Ping of ours. Only the latest tells how long it took.
    pub(super) fn answered(&mut self, payload: &[u8], now: Instant) {
        if let RttSample::Out(sent) = self.trip
            && payload.ends_with(&self.pings.to_be_bytes())
        {
            self.trip = RttSample::Back(now.saturating_duration_since(sent));
        }
    }

    /// How long an answer took, told once.
    pub(super) fn round_trip(&mut self) -> Option<Duration> {
        let RttSample::Back(took) = self.trip else {
            return None;
        };
        self.trip = RttSample::None;
        Some(took)
    }

    /// Whether the peer gave a sign of life not longer ago than `span`, and could have given one just now.
    pub(super) fn alive_within(&self, span: Duration, now: Instant) -> bool {
        self.frozen.is_none() && now.saturating_duration_since(self.heard) <= span
    }

    /// Whether nothing is asked or answered, and the leg is read.
    pub(super) fn is_quiescent(&self) -> bool {
        self.question == PingState::None
            && self.frozen.is_none()
            && !matches!(self.trip, RttSample::Back(_))
    }

    /// Whether our Ping waits to be sent.
    pub(super) fn ping_is_due(&self) -> bool {
        self.question == PingState::Due
    }

    /// Our Ping, to be sent now.
    pub(super) fn build_ping(&mut self, now: Instant, mask: Option<[u8; 4]>) -> ControlFrame {
        self.question = PingState::Outstanding(now);
        self.trip = RttSample::Out(now);
        self.pings = self.pings.wrapping_add(1);
        let tag = self.tag.get_or_insert_with(random_bytes);
        let mut payload = [0; 12];
        payload[..8].copy_from_slice(tag);
        payload[8..].copy_from_slice(&self.pings.to_be_bytes());
        ControlFrame::ping(&payload, mask)
    }

    /// Takes note of what the kernel has taken, and of whether we read the leg at all.
    pub(super) fn observe(&mut self, now: Instant, taken: u64, reading: bool) {
        if taken != self.taken {
            self.taken = taken;
            if let PingState::Outstanding(since) | PingState::Blocked(since) = &mut self.question {
                *since = now;
            }
        }
        match (self.frozen, reading) {
            (None, false) => {
                self.frozen = Some(now);
                // An answer would be read too late.
                if let RttSample::Out(_) = self.trip {
                    self.trip = RttSample::None;
                }
            }
            (Some(since), true) => {
                let pause = now - since;
                self.frozen = None;
                // What happened just now, as we began to read again, was not before the pause.
                self.heard = now.min(self.heard + pause);
                if let PingState::Outstanding(asked) | PingState::Blocked(asked) =
                    &mut self.question
                {
                    *asked = now.min(*asked + pause);
                }
            }
            _ => {}
        }
    }

    /// Asks when it is time; true when the peer must be given up. `stuck`: the pipe towards the peer is full.
    pub(super) fn tick(&mut self, now: Instant, policy: PingPolicy, stuck: bool) -> bool {
        if self.frozen.is_some() {
            return false;
        }
        match self.question {
            PingState::None if now >= self.heard + policy.interval => self.request_ping(now),
            PingState::Due if stuck => self.question = PingState::Blocked(now),
            // What has come through meanwhile may have been a Ping.
            PingState::Blocked(_) if !stuck => self.request_ping(now),
            PingState::Outstanding(since) | PingState::Blocked(since) => {
                return now >= since + policy.timeout;
            }
            _ => {}
        }
        false
    }

    /// A Ping of ours becomes due, unless a relayed one asks already.
    fn request_ping(&mut self, now: Instant) {
        self.question = if self.relayed {
            PingState::Outstanding(now)
        } else {
            PingState::Due
        };
    }

    /// When [`Pulse::tick`] has something to say next.
    pub(super) fn deadline(&self, policy: PingPolicy) -> Option<Instant> {
        match self.question {
            _ if self.frozen.is_some() => None,
            PingState::None => Some(self.heard + policy.interval),
            PingState::Due => None,
            PingState::Outstanding(since) | PingState::Blocked(since) => {
                Some(since + policy.timeout)
            }
        }
    }
}
