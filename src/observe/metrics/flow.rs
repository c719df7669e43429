//! What sessions tell while they live: who does not read, who is kept waiting, how long a Ping takes.

use prometheus_client::{
    encoding::EncodeLabelSet,
    metrics::{family::Family, gauge::Gauge, histogram::Histogram},
    registry::{Registry, Unit},
};
use std::time::Duration;

/// All sessions together.
#[derive(Debug)]
pub struct SessionMetrics {
    /// The clients' legs.
    pub client: LegMetrics,
    /// The backends' legs.
    pub backend: LegMetrics,
    paused: Gauge,
}

/// One side of all sessions.
#[derive(Debug)]
pub struct LegMetrics {
    stuck: Gauge,
    slow: Gauge,
    round_trip: Histogram,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct TowardsLabels {
    leg: &'static str,
}

// === impl SessionMetrics ===

impl SessionMetrics {
    #[rustfmt::skip] // a table
    pub(super) fn new(all: &mut Registry) -> Self {
        let stuck = Family::<TowardsLabels, Gauge>::default();
        let slow = Family::<TowardsLabels, Gauge>::default();
        let round_trip = Family::<TowardsLabels, Histogram>::new_with_constructor(|| Histogram::new(RTT_SECONDS));
        let paused = Gauge::default();
        all.register("lockgate_stuck_bytes", "Bytes that wait in lockgate for a leg that does not take them", stuck.clone());
        all.register("lockgate_slow_readers", "Legs that have taken nothing for slow_reader.after though bytes wait for them", slow.clone());
        all.register("lockgate_rate_paused_sessions", "Sessions whose client is not read because it sent more than it may", paused.clone());
        all.register_with_unit("lockgate_ping_rtt", "From a Ping of lockgate's own to its Pong", Unit::Seconds, round_trip.clone());
        let leg = |leg| {
            let towards = TowardsLabels { leg };
            LegMetrics {
                stuck: stuck.get_or_create_owned(&towards),
                slow: slow.get_or_create_owned(&towards),
                round_trip: round_trip.get_or_create_owned(&towards),
            }
        };
        SessionMetrics { client: leg("client"), backend: leg("backend"), paused }
    }

    /// A client is kept waiting, or no longer.
    pub fn paused(&self, paused: bool) {
        count(&self.paused, paused);
    }
}

/// For sessions that nobody watches.
impl Default for SessionMetrics {
    fn default() -> Self {
        SessionMetrics::new(&mut Registry::default())
    }
}

// === impl LegMetrics ===

impl LegMetrics {
    /// So many bytes more wait, or less.
    pub fn stuck(&self, change: i64) {
        self.stuck.inc_by(change);
    }

    /// A peer has become a slow reader, or is none any more.
    pub fn slow(&self, slow: bool) {
        count(&self.slow, slow);
    }

    /// A Ping of ours was answered.
    pub fn round_trip(&self, took: Duration) {
        self.round_trip.observe(took.as_secs_f64());
    }
}

fn count(gauge: &Gauge, more: bool) {
    gauge.inc_by(if more { 1 } else { -1 });
}

/// From a loopback's tenth of a millisecond to a mobile link's seconds, and what only `ping.timeout` ends.
const RTT_SECONDS: [f64; 12] = [
    0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 1.0, 2.5, 10.0,
];
