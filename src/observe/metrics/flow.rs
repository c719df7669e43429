//! Metrics of live sessions: back-pressure, slow readers, rate limiting and round-trip times.

use prometheus_client::{
    encoding::EncodeLabelSet,
    metrics::{family::Family, gauge::Gauge, histogram::Histogram},
    registry::{Registry, Unit},
};
use std::time::Duration;

/// The metrics that sessions update while they are live.
#[derive(Debug)]
pub struct SessionMetrics {
    /// Metrics of client legs.
    pub client: LegMetrics,
    /// Metrics of backend legs.
    pub backend: LegMetrics,
    paused: Gauge,
}

/// The metrics of one leg, summed over all sessions.
#[derive(Debug)]
pub struct LegMetrics {
    stuck_bytes: Gauge,
    slow_readers: Gauge,
    rtt: Histogram,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct TowardsLabels {
    leg: &'static str,
}

// === impl SessionMetrics ===

impl SessionMetrics {
    #[rustfmt::skip] // a table
    pub(super) fn new(registry: &mut Registry) -> Self {
        let stuck_bytes = Family::<TowardsLabels, Gauge>::default();
        let slow_readers = Family::<TowardsLabels, Gauge>::default();
        let rtt = Family::<TowardsLabels, Histogram>::new_with_constructor(|| Histogram::new(RTT_SECONDS));
        let paused = Gauge::default();
        registry.register("lockgate_stuck_bytes", "Bytes pending in lockgate because a leg does not accept them", stuck_bytes.clone());
        registry.register("lockgate_slow_readers", "Legs that have accepted no byte for slow_reader.after although bytes are pending", slow_readers.clone());
        registry.register("lockgate_rate_paused_sessions", "Sessions whose client is paused because it exceeded its rate limit", paused.clone());
        registry.register_with_unit("lockgate_ping_rtt", "Time from a Ping sent by lockgate to its Pong", Unit::Seconds, rtt.clone());
        let leg = |leg| {
            let labels = TowardsLabels { leg };
            LegMetrics {
                stuck_bytes: stuck_bytes.get_or_create_owned(&labels),
                slow_readers: slow_readers.get_or_create_owned(&labels),
                rtt: rtt.get_or_create_owned(&labels),
            }
        };
        SessionMetrics { client: leg("client"), backend: leg("backend"), paused }
    }

    /// Adds a session whose client is paused by its rate limit, or removes it.
    pub fn paused(&self, paused: bool) {
        add_or_remove(&self.paused, paused);
    }
}

/// Metrics that no registry exports, for tests.
impl Default for SessionMetrics {
    fn default() -> Self {
        SessionMetrics::new(&mut Registry::default())
    }
}

// === impl LegMetrics ===

impl LegMetrics {
    /// Changes the number of pending bytes.
    pub fn stuck(&self, change: i64) {
        self.stuck_bytes.inc_by(change);
    }

    /// Adds a slow reader, or removes it.
    pub fn slow(&self, slow: bool) {
        add_or_remove(&self.slow_readers, slow);
    }

    /// Records the round-trip time of a Ping.
    pub fn round_trip(&self, rtt: Duration) {
        self.rtt.observe(rtt.as_secs_f64());
    }
}

fn add_or_remove(gauge: &Gauge, add: bool) {
    gauge.inc_by(if add { 1 } else { -1 });
}

/// From the fraction of a millisecond of a local peer to the seconds of a slow mobile link.
const RTT_SECONDS: [f64; 12] = [
    0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 1.0, 2.5, 10.0,
];
