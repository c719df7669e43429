//! Keepalive of a leg: liveness is derived from relayed traffic, and a Ping is sent only if there is none.
//!
//! Any received byte proves liveness. After `interval` of silence a reply is awaited: to our Ping, to a relayed Ping
//! that is still unanswered (a peer may answer only the latest, RFC 6455 §5.5.3, so a second Ping would suppress the
//! answer to the first), or, if the peer accepts no bytes, to the bytes pending for it. After a further `timeout` the
//! peer is dead, unless the kernel accepted more of our bytes in between. The clock is stopped while back-pressure or
//! the client's rate limit pauses reading from the leg.

use super::{PingPolicy, random::random_bytes};
use crate::proto::frame::ControlFrame;
use std::time::Duration;
use tokio::time::Instant;

/// The keepalive state of one leg.
pub(super) struct Keepalive {
    heard: Instant,
    question: PingState,
    /// Whether a relayed Ping is unanswered.
    relayed: bool,
    /// Number of bytes that the kernel had accepted at the last check.
    taken: u64,
    /// Since when reading from the leg is paused.
    frozen: Option<Instant>,
    /// Random tag in the payload of our Pings, generated with the first one.
    tag: Option<[u8; 8]>,
    pings: u32,
    trip: RttSample,
}

#[derive(Clone, Copy, PartialEq)]
enum PingState {
    None,
    /// Our Ping waits for the end of the current frame, a delay that does not count against the peer.
    Due,
    /// A Ping was sent at that time and is unanswered.
    Outstanding(Instant),
    /// Our Ping cannot be sent because the peer has accepted no bytes since that time.
    Blocked(Instant),
}

/// The round trip of our latest Ping and its Pong.
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

    /// Records that bytes arrived.
    pub(super) fn on_bytes(&mut self, now: Instant) {
        self.heard = now;
        self.question = PingState::None;
    }

    /// Records that a Ping of the other leg was relayed to this one.
    pub(super) fn relayed_ping(&mut self) {
        self.relayed = true;
    }

    /// Records a Pong that does not answer a Ping of ours: it answers a relayed Ping or is unsolicited.
    pub(super) fn foreign_pong(&mut self) {
        self.relayed = false;
    }

    /// Returns whether `payload` belongs to a Ping of ours.
    pub(super) fn is_own(&self, payload: &[u8]) -> bool {
        self.tag
            .is_some_and(|tag| payload.len() == 12 && payload[..8] == tag)
    }

    /// Records the Pong that answers a Ping of ours. Only the latest Ping gives a round-trip time.
    pub(super) fn answered(&mut self, payload: &[u8], now: Instant) {
        if let RttSample::Out(sent) = self.trip
            && payload.ends_with(&self.pings.to_be_bytes())
        {
            self.trip = RttSample::Back(now.saturating_duration_since(sent));
        }
    }

    /// Returns a measured round-trip time once.
    pub(super) fn round_trip(&mut self) -> Option<Duration> {
        let RttSample::Back(took) = self.trip else {
            return None;
        };
        self.trip = RttSample::None;
        Some(took)
    }

    /// Returns whether the peer was alive within the last `span`, and its input is being read now.
    pub(super) fn alive_within(&self, span: Duration, now: Instant) -> bool {
        self.frozen.is_none() && now.saturating_duration_since(self.heard) <= span
    }

    /// Returns whether no Ping is pending and the leg is being read.
    pub(super) fn is_quiescent(&self) -> bool {
        self.question == PingState::None
            && self.frozen.is_none()
            && !matches!(self.trip, RttSample::Back(_))
    }

    /// Returns whether a Ping of ours is due.
    pub(super) fn ping_is_due(&self) -> bool {
        self.question == PingState::Due
    }

    /// Builds the Ping that is sent now.
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

    /// Records how many bytes the kernel has accepted, and whether the leg is being read.
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
                // The Pong would be read too late for a valid sample.
                if let RttSample::Out(_) = self.trip {
                    self.trip = RttSample::None;
                }
            }
            (Some(since), true) => {
                let pause = now - since;
                self.frozen = None;
                // An event at this moment, when reading resumed, did not happen before the pause.
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

    /// Requests a Ping when it is due; returns true if the peer is dead. `stuck`: the peer accepts no bytes.
    pub(super) fn tick(&mut self, now: Instant, policy: PingPolicy, stuck: bool) -> bool {
        if self.frozen.is_some() {
            return false;
        }
        match self.question {
            PingState::None if now >= self.heard + policy.interval => self.request_ping(now),
            PingState::Due if stuck => self.question = PingState::Blocked(now),
            // A Ping may have been relayed in the meantime.
            PingState::Blocked(_) if !stuck => self.request_ping(now),
            PingState::Outstanding(since) | PingState::Blocked(since) => {
                return now >= since + policy.timeout;
            }
            _ => {}
        }
        false
    }

    /// Makes a Ping of ours due, unless a relayed one is unanswered.
    fn request_ping(&mut self, now: Instant) {
        self.question = if self.relayed {
            PingState::Outstanding(now)
        } else {
            PingState::Due
        };
    }

    /// Returns when [`Keepalive::tick`] must be called next.
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
