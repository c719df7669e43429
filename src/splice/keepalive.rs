//! Keepalive of a leg: liveness is derived from relayed traffic, and a Ping is sent only if there is none.
//!
//! Any received byte proves liveness. After `interval` of silence a reply is awaited: to our Ping, to a relayed Ping
//! that is still unanswered (a peer may answer only the latest, RFC 6455 §5.5.3, so a second Ping could suppress the
//! answer to the first), or, if the peer accepts no bytes, to the bytes pending for it. After a further `timeout` the
//! peer is dead, unless the kernel accepted more of our bytes in between. The clock is stopped while back-pressure or
//! the client's rate limit pauses reading from the leg.

use crate::{
    net::random::random_bytes,
    proto::frame::{ControlFrame, apply_mask},
};
use std::time::Duration;
use tokio::time::Instant;

/// When a Ping is sent to a silent peer, and when the peer is considered dead.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct PingPolicy {
    /// Silence after which a Ping is sent.
    pub interval: Duration,
    /// Further silence after which the peer is considered dead.
    pub timeout: Duration,
}

/// The keepalive state of one leg.
pub(crate) struct Keepalive {
    last_received: Instant,
    ping: PingState,
    /// Whether a Ping of the other leg was relayed and is unanswered.
    relayed_ping_pending: bool,
    /// Number of bytes that the kernel had accepted at the last check.
    bytes_accepted: u64,
    /// Since when reading from the leg is paused; `None` while it is read.
    paused_since: Option<Instant>,
    /// Random tag in the payload of our Pings, generated with the first one.
    tag: Option<[u8; TAG_LEN]>,
    pings_sent: u32,
    /// The number in the payload of the latest answered Ping; those after it are outstanding.
    pings_answered: u32,
    rtt: RttSample,
}

/// How bytes compare with the answer to an outstanding Ping of ours in a frame whose mask is wrong for its sender.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum MismaskedPong {
    /// They are another frame.
    Other,
    /// They are the beginning of such an answer.
    Incomplete,
    /// They begin with such an answer.
    Complete { len: usize, payload: PingPayload },
}

/// The payload of our Pings: a random tag, which no peer can guess, and a number.
pub(crate) type PingPayload = [u8; TAG_LEN + 4];

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

/// Round-trip time of our latest Ping.
#[derive(Clone, Copy)]
enum RttSample {
    None,
    /// The Ping was sent at that time.
    InFlight(Instant),
    /// The Pong has arrived.
    Measured(Duration),
}

// === impl Keepalive ===

impl Keepalive {
    pub(crate) fn new(now: Instant, bytes_accepted: u64) -> Self {
        Keepalive {
            last_received: now,
            ping: PingState::None,
            relayed_ping_pending: false,
            bytes_accepted,
            paused_since: None,
            tag: None,
            pings_sent: 0,
            pings_answered: 0,
            rtt: RttSample::None,
        }
    }

    /// Records that bytes arrived.
    pub(crate) fn on_bytes(&mut self, now: Instant) {
        self.last_received = now;
        self.ping = PingState::None;
    }

    /// Records that a Ping of the other leg was relayed to this one.
    pub(crate) fn on_relayed_ping(&mut self) {
        self.relayed_ping_pending = true;
    }

    /// Records a Pong that does not answer a Ping of ours: it answers a relayed Ping or is unsolicited.
    pub(crate) fn on_foreign_pong(&mut self) {
        self.relayed_ping_pending = false;
    }

    /// Returns whether `payload` belongs to a Ping of ours.
    pub(crate) fn is_own_pong(&self, payload: &[u8]) -> bool {
        self.tag
            .is_some_and(|tag| payload.len() == tag.len() + 4 && payload.starts_with(&tag))
    }

    /// Compares `bytes`, which begin at a frame boundary, with the answer to an outstanding Ping of ours in a frame
    /// that is unmasked although it must be masked, or the other way round (`masked`).
    #[cold]
    pub(crate) fn mismasked_pong(&self, masked: bool, bytes: &[u8]) -> MismaskedPong {
        let Some(tag) = self.tag else {
            return MismaskedPong::Other;
        };
        let mut payload = PingPayload::default();
        let mask_bit = if masked { 0x80 } else { 0 };
        let head = [FIN_PONG, mask_bit | payload.len() as u8];
        let (bytes_of_head, rest) = bytes.split_at(bytes.len().min(head.len()));
        if !head.starts_with(bytes_of_head) {
            return MismaskedPong::Other;
        }
        let (key, rest) = match (masked, rest.split_first_chunk::<4>()) {
            (false, _) => ([0; 4], rest),
            (true, Some((key, rest))) => (*key, rest),
            (true, None) => return MismaskedPong::Incomplete,
        };
        let here = rest.get(..payload.len()).unwrap_or(rest);
        let received = &mut payload[..here.len()];
        received.copy_from_slice(here);
        apply_mask(received, key);
        if !tag.starts_with(&received[..received.len().min(tag.len())]) {
            return MismaskedPong::Other;
        }
        if here.len() < payload.len() {
            return MismaskedPong::Incomplete;
        }
        if !self.is_outstanding(number_of(&payload)) {
            return MismaskedPong::Other;
        }
        let len = bytes.len() - rest.len() + payload.len();
        MismaskedPong::Complete { len, payload }
    }

    /// Returns whether the Ping with this number has been sent, and neither it nor a later one was answered.
    fn is_outstanding(&self, number: u32) -> bool {
        let since_answer = number.wrapping_sub(self.pings_answered);
        (1..=self.pings_sent.wrapping_sub(self.pings_answered)).contains(&since_answer)
    }

    /// Records the Pong that answers a Ping of ours. Only the latest Ping gives a round-trip time.
    pub(crate) fn on_own_pong(&mut self, payload: &[u8], now: Instant) {
        let number = number_of(payload);
        if self.is_outstanding(number) {
            self.pings_answered = number;
        }
        if let RttSample::InFlight(sent) = self.rtt
            && number == self.pings_sent
        {
            self.rtt = RttSample::Measured(now.saturating_duration_since(sent));
        }
    }

    /// Returns a measured round-trip time once.
    pub(crate) fn take_rtt(&mut self) -> Option<Duration> {
        let RttSample::Measured(rtt) = self.rtt else {
            return None;
        };
        self.rtt = RttSample::None;
        Some(rtt)
    }

    /// Returns whether the peer was alive within the last `span`, and its input is being read now.
    pub(crate) fn alive_within(&self, span: Duration, now: Instant) -> bool {
        self.paused_since.is_none() && now.saturating_duration_since(self.last_received) <= span
    }

    /// Returns whether no Ping is due or unanswered, the leg is being read, and no measured round-trip time is left.
    pub(crate) fn is_quiescent(&self) -> bool {
        self.ping == PingState::None
            && self.paused_since.is_none()
            && !matches!(self.rtt, RttSample::Measured(_))
    }

    /// Returns whether a Ping of ours is due.
    pub(crate) fn ping_is_due(&self) -> bool {
        self.ping == PingState::Due
    }

    /// Builds the Ping that is sent now.
    pub(crate) fn build_ping(&mut self, now: Instant, mask: Option<[u8; 4]>) -> ControlFrame {
        self.ping = PingState::Outstanding(now);
        self.rtt = RttSample::InFlight(now);
        self.pings_sent = self.pings_sent.wrapping_add(1);
        let tag = self.tag.get_or_insert_with(random_bytes);
        let mut payload = PingPayload::default();
        payload[..TAG_LEN].copy_from_slice(tag);
        payload[TAG_LEN..].copy_from_slice(&self.pings_sent.to_be_bytes());
        ControlFrame::ping(&payload, mask)
    }

    /// Records how many bytes the kernel has accepted for the leg, and whether the leg is being read.
    pub(crate) fn observe(&mut self, now: Instant, bytes_accepted: u64, is_read: bool) {
        if bytes_accepted != self.bytes_accepted {
            self.bytes_accepted = bytes_accepted;
            if let PingState::Outstanding(since) | PingState::Blocked(since) = &mut self.ping {
                *since = now;
            }
        }
        match (self.paused_since, is_read) {
            (None, false) => {
                self.paused_since = Some(now);
                // The Pong would be read too late for a valid sample.
                if let RttSample::InFlight(_) = self.rtt {
                    self.rtt = RttSample::None;
                }
            }
            (Some(since), true) => {
                let pause = now - since;
                self.paused_since = None;
                // An event at this moment, when reading resumed, did not happen before the pause.
                self.last_received = now.min(self.last_received + pause);
                if let PingState::Outstanding(since) | PingState::Blocked(since) = &mut self.ping {
                    *since = now.min(*since + pause);
                }
            }
            _ => {}
        }
    }

    /// Requests a Ping when it is due; returns true if the peer is dead. `blocked`: the peer accepts no bytes.
    pub(crate) fn tick(&mut self, now: Instant, policy: PingPolicy, blocked: bool) -> bool {
        if self.paused_since.is_some() {
            return false;
        }
        match self.ping {
            PingState::None if now >= self.last_received + policy.interval => {
                self.request_ping(now)
            }
            PingState::Due if blocked => self.ping = PingState::Blocked(now),
            // A Ping may have been relayed in the meantime.
            PingState::Blocked(_) if !blocked => self.request_ping(now),
            PingState::Outstanding(since) | PingState::Blocked(since) => {
                return now >= since + policy.timeout;
            }
            _ => {}
        }
        false
    }

    /// Makes a Ping of ours due, unless a relayed one is unanswered.
    fn request_ping(&mut self, now: Instant) {
        self.ping = if self.relayed_ping_pending {
            PingState::Outstanding(now)
        } else {
            PingState::Due
        };
    }

    /// Returns when [`Keepalive::tick`] must be called next.
    pub(crate) fn deadline(&self, policy: PingPolicy) -> Option<Instant> {
        match self.ping {
            _ if self.paused_since.is_some() => None,
            PingState::None => Some(self.last_received + policy.interval),
            PingState::Due => None,
            PingState::Outstanding(since) | PingState::Blocked(since) => {
                Some(since + policy.timeout)
            }
        }
    }
}

/// Returns the number in the payload of a Ping of ours.
fn number_of(payload: &[u8]) -> u32 {
    let number = payload.get(TAG_LEN..).and_then(|rest| rest.first_chunk());
    number.copied().map_or(0, u32::from_be_bytes)
}

const TAG_LEN: usize = 8;

/// The first byte of a Pong.
const FIN_PONG: u8 = 0x8A;
