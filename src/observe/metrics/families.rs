//! Metrics with labels: the label sets, and the families of live sessions and of pools. Every label value comes from a
//! closed set, whatever a client or backend sends.

use prometheus_client::{
    encoding::EncodeLabelSet,
    metrics::{counter::Counter, family::Family, gauge::Gauge, histogram::Histogram},
    registry::{Registry, Unit},
};
use std::time::Duration;

/// The metrics that sessions update while they are live: back-pressure, slow readers, rate limiting, round-trip times.
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

/// The metrics of pools: queued requests, refusals of the admission queue, retries.
#[derive(Debug, Default)]
pub(crate) struct PoolMetrics {
    waiting: Family<PoolLabels, Gauge>,
    refused: Family<QueueRefusalLabels, Counter>,
    retries: Family<PoolLabels, Counter>,
}

/// A guard that counts a request in the admission queue until it is dropped.
#[derive(Debug)]
pub struct WaitingGauge(Gauge);

/// The reason of a failed connection.
#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
pub(crate) struct WhyLabels {
    pub(crate) why: &'static str,
}

/// What a connection to a backend is used for.
#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
pub(crate) struct PurposeLabels {
    pub(crate) purpose: &'static str,
}

/// A configured host, never one that a client has chosen.
#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
pub(crate) struct HostLabels {
    pub(crate) host: String,
}

/// A configured backend in one of its pools.
#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
pub(crate) struct BackendLabels {
    pool: String,
    backend: String,
}

/// A configured backend and the state that it has changed to: up, down or ejected.
#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
pub(crate) struct TransitionLabels {
    pool: String,
    backend: String,
    to: &'static str,
}

/// A configured backend and one of its possible states.
#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
pub(crate) struct BackendStateLabels {
    pool: String,
    backend: String,
    state: &'static str,
}

/// The outcome of a certificate order, a reload or a DNS lookup.
#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
pub(crate) struct OutcomeLabels {
    pub(crate) outcome: &'static str,
}

/// The leg that sent the traffic.
#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
pub(crate) struct LegLabels {
    pub(crate) from: &'static str,
}

/// The status and reason of a refusal. Lockgate chooses both, so the set is closed.
#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
pub(crate) struct RefusalLabels {
    pub(crate) status: u16,
    pub(crate) why: &'static str,
}

/// The name of a guard, and "admitted" or "denied".
#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
pub(crate) struct GuardLabels {
    pub(crate) guard: String,
    pub(crate) outcome: &'static str,
}

/// The name of a pool.
#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct PoolLabels {
    pool: String,
}

/// A configured pool and the reason why its admission queue refused a request.
#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct QueueRefusalLabels {
    pool: String,
    reason: &'static str,
}

/// The class of a backend's status. With the status itself, a backend could create a thousand series.
#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
pub(crate) struct StatusClassLabels {
    status: &'static str,
}

/// The close code and the initiator of a session's end.
#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
pub(crate) struct CloseLabels {
    code: &'static str,
    by: &'static str,
}

// === impl SessionMetrics ===

impl SessionMetrics {
    /// Creates and registers the metrics.
    #[rustfmt::skip] // a table
    pub(crate) fn new(registry: &mut Registry) -> Self {
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
    pub fn track_paused(&self, paused: bool) {
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
    pub fn add_stuck_bytes(&self, change: i64) {
        self.stuck_bytes.inc_by(change);
    }

    /// Adds a slow reader, or removes it.
    pub fn track_slow(&self, slow: bool) {
        add_or_remove(&self.slow_readers, slow);
    }

    /// Records the round-trip time of a Ping.
    pub fn record_round_trip(&self, rtt: Duration) {
        self.rtt.observe(rtt.as_secs_f64());
    }
}

fn add_or_remove(gauge: &Gauge, add: bool) {
    gauge.inc_by(if add { 1 } else { -1 });
}

// === impl PoolMetrics ===

impl PoolMetrics {
    /// Adds the metrics to the registry.
    #[rustfmt::skip] // a table
    pub(crate) fn register(&self, registry: &mut Registry) {
        registry.register("lockgate_admission_waiting", "Requests waiting in the admission queue", self.waiting.clone());
        registry.register("lockgate_admission_refused", "Requests refused by the admission queue, by reason", self.refused.clone());
        registry.register("lockgate_retries", "Attempts on a backend after an earlier attempt had failed", self.retries.clone());
    }

    /// Counts a request that waits in the admission queue of a pool.
    pub(crate) fn waiting_gauge(&self, pool: &str) -> WaitingGauge {
        let gauge = self.waiting.get_or_create(&PoolLabels::new(pool)).clone();
        WaitingGauge::new(gauge)
    }

    /// Counts a request that the admission queue refused; `reason` comes from a closed set of words.
    pub(crate) fn count_admission_refusal(&self, pool: &str, reason: &'static str) {
        let pool = pool.into();
        let labels = QueueRefusalLabels { pool, reason };
        self.refused.get_or_create(&labels).inc();
    }

    /// Counts an attempt on a backend of the pool after an earlier attempt has failed.
    pub(crate) fn count_retry(&self, pool: &str) {
        self.retries.get_or_create(&PoolLabels::new(pool)).inc();
    }
}

// === impl WaitingGauge ===

impl WaitingGauge {
    fn new(gauge: Gauge) -> Self {
        gauge.inc();
        WaitingGauge(gauge)
    }
}

impl Drop for WaitingGauge {
    fn drop(&mut self) {
        self.0.dec();
    }
}

// === impl BackendLabels ===

impl BackendLabels {
    pub(crate) fn new(pool: &str, backend: &str) -> Self {
        BackendLabels {
            pool: pool.into(),
            backend: backend.into(),
        }
    }
}

// === impl TransitionLabels ===

impl TransitionLabels {
    pub(crate) fn new(pool: &str, backend: &str, to: &'static str) -> Self {
        TransitionLabels {
            pool: pool.into(),
            backend: backend.into(),
            to,
        }
    }
}

// === impl BackendStateLabels ===

impl BackendStateLabels {
    pub(crate) fn new(pool: &str, backend: &str, state: &'static str) -> Self {
        BackendStateLabels {
            pool: pool.into(),
            backend: backend.into(),
            state,
        }
    }
}

// === impl PoolLabels ===

impl PoolLabels {
    fn new(name: &str) -> Self {
        PoolLabels { pool: name.into() }
    }
}

// === impl StatusClassLabels ===

impl StatusClassLabels {
    /// Returns the labels of a status.
    pub(crate) fn class(status: u16) -> Self {
        let status = match status {
            100..200 => "1xx",
            200..300 => "2xx",
            300..400 => "3xx",
            400..500 => "4xx",
            500..600 => "5xx",
            _ => "other",
        };
        StatusClassLabels { status }
    }
}

// === impl CloseLabels ===

impl CloseLabels {
    /// Creates the labels. Peers may choose among 2,000 codes from 3000 to 4999 (RFC 6455 §7.4.2), so each thousand
    /// counts as one value.
    pub(crate) fn new(code: Option<u16>, by: &'static str) -> Self {
        let code = match code {
            None => "none",
            Some(3000..4000) => "3xxx",
            Some(4000..5000) => "4xxx",
            Some(code) => REGISTERED_CODES
                .into_iter()
                .find(|(registered, _)| *registered == code)
                .map_or("other", |(_, word)| word),
        };
        CloseLabels { code, by }
    }
}

/// The registered close codes (RFC 6455 §7.4.1 and the IANA registry).
const REGISTERED_CODES: [(u16, &str); 16] = [
    (1000, "1000"),
    (1001, "1001"),
    (1002, "1002"),
    (1003, "1003"),
    (1004, "1004"),
    (1005, "1005"),
    (1006, "1006"),
    (1007, "1007"),
    (1008, "1008"),
    (1009, "1009"),
    (1010, "1010"),
    (1011, "1011"),
    (1012, "1012"),
    (1013, "1013"),
    (1014, "1014"),
    (1015, "1015"),
];

/// From the fraction of a millisecond of a local peer to the seconds of a slow mobile link.
const RTT_SECONDS: [f64; 12] = [
    0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 1.0, 2.5, 10.0,
];
