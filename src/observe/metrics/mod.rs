//! Counters, gauges and histograms. All label sets are closed, so that no client or backend can create a series. The
//! traffic of a session is added when it closes, so that relaying a frame updates no metric. Label sets, and the
//! metrics of live sessions and pools, are in `families.rs`.

pub(crate) mod families;

use crate::{
    net::{
        descriptors::{DescriptorBudget, DescriptorUse},
        memory::resident_bytes,
    },
    observe::{
        access::record::SessionEnd,
        metrics::families::{
            BackendLabels, BackendStateLabels, CloseLabels, GuardLabels, HostLabels, LegLabels,
            OutcomeLabels, PoolMetrics, PurposeLabels, RefusalLabels, SessionMetrics,
            StatusClassLabels, TransitionLabels, WaitingGauge, WhyLabels,
        },
    },
};
use prometheus_client::{
    collector::Collector,
    encoding::{DescriptorEncoder, EncodeMetric, text},
    metrics::{
        MetricType,
        counter::Counter,
        family::Family,
        gauge::{ConstGauge, Gauge},
        histogram::Histogram,
        info::Info,
    },
    registry::{Registry, Unit},
};
use rustix::process::{Resource, getrlimit};
use std::{
    fmt, fs,
    sync::Arc,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

/// All metrics of the process.
#[derive(Debug)]
pub struct Metrics {
    registry: Registry,
    connections: Gauge,
    requests_in_flight: Gauge,
    connections_accepted: Counter,
    connection_failures: Family<WhyLabels, Counter>,
    acme_challenges: Counter,
    acme_orders: Family<OutcomeLabels, Counter>,
    config_reloads: Family<OutcomeLabels, Counter>,
    dns_answers: Family<OutcomeLabels, Counter>,
    certificates: Family<HostLabels, Gauge>,
    backend_up: Family<BackendLabels, Gauge>,
    backend_transitions: Family<TransitionLabels, Counter>,
    backend_states: Family<BackendStateLabels, Gauge>,
    sessions: Gauge,
    sessions_opened: Counter,
    session_closes: Family<CloseLabels, Counter>,
    requests: Family<StatusClassLabels, Counter>,
    refusals: Family<RefusalLabels, Counter>,
    guards: Family<GuardLabels, Counter>,
    pools: PoolMetrics,
    frames: Family<LegLabels, Counter>,
    messages: Family<LegLabels, Counter>,
    bytes: Family<LegLabels, Counter>,
    handshake_seconds: Histogram,
    session_seconds: Histogram,
    live_sessions: Arc<SessionMetrics>,
}

/// A guard that counts an open connection until it is dropped.
#[derive(Debug)]
pub struct ConnectionGauge(Arc<Metrics>);

/// A guard that counts a plain request until it is dropped.
#[derive(Debug)]
pub struct RequestGauge(Arc<Metrics>);

/// A guard that counts a live session until it is dropped.
#[derive(Debug)]
pub struct SessionGauge(Arc<Metrics>);

/// A collector of the descriptor budget, read at each scrape.
#[derive(Debug)]
struct DescriptorCollector(Arc<DescriptorBudget>);

/// A collector of process metrics from `/proc/self`, read at each scrape, under the names common to Prometheus client
/// libraries.
#[derive(Debug)]
struct ProcessCollector {
    /// In Unix time.
    started: f64,
}

// === impl Metrics ===

impl Metrics {
    /// Creates the metrics of a process with an unlimited budget of descriptors.
    #[allow(clippy::new_without_default)] // the result depends on the time
    pub fn new() -> Self {
        Metrics::of(DescriptorBudget::new(u64::MAX))
    }

    /// Creates the metrics with all counters at zero; the current time becomes the start time of the process.
    pub(crate) fn of(descriptors: Arc<DescriptorBudget>) -> Self {
        let mut registry = Registry::default();
        let live_sessions = Arc::new(SessionMetrics::new(&mut registry));
        let mut metrics = Metrics {
            registry,
            connections: Gauge::default(),
            requests_in_flight: Gauge::default(),
            connections_accepted: Counter::default(),
            connection_failures: Family::default(),
            acme_challenges: Counter::default(),
            acme_orders: Family::default(),
            config_reloads: Family::default(),
            dns_answers: Family::default(),
            certificates: Family::default(),
            backend_up: Family::default(),
            backend_transitions: Family::default(),
            backend_states: Family::default(),
            sessions: Gauge::default(),
            sessions_opened: Counter::default(),
            session_closes: Family::default(),
            requests: Family::default(),
            refusals: Family::default(),
            guards: Family::default(),
            pools: PoolMetrics::default(),
            frames: Family::default(),
            messages: Family::default(),
            bytes: Family::default(),
            handshake_seconds: Histogram::new(HANDSHAKE_SECONDS),
            session_seconds: Histogram::new(SESSION_SECONDS),
            live_sessions,
        };
        metrics.register();
        let collector = Box::new(DescriptorCollector(descriptors));
        metrics.registry.register_collector(collector);
        metrics
    }

    /// Counts an accepted connection.
    pub fn connection_gauge(self: &Arc<Self>) -> ConnectionGauge {
        self.connections_accepted.inc();
        self.connections.inc();
        ConnectionGauge(self.clone())
    }

    /// Counts a plain request in progress.
    pub fn request_in_flight(self: &Arc<Self>) -> RequestGauge {
        self.requests_in_flight.inc();
        RequestGauge(self.clone())
    }

    /// Returns the number of plain requests in progress.
    pub fn requests_in_flight(&self) -> u64 {
        self.requests_in_flight.get().max(0).unsigned_abs()
    }

    /// Counts a session that has opened.
    pub fn session_gauge(self: &Arc<Self>) -> SessionGauge {
        self.sessions_opened.inc();
        self.sessions.inc();
        SessionGauge(self.clone())
    }

    /// Returns the metrics that sessions update while they are live.
    pub fn live_sessions(&self) -> &Arc<SessionMetrics> {
        &self.live_sessions
    }

    /// Returns the number of open connections.
    pub fn connections(&self) -> u64 {
        self.connections.get().max(0).unsigned_abs()
    }

    /// Returns the number of live sessions.
    pub fn sessions(&self) -> u64 {
        self.sessions.get().max(0).unsigned_abs()
    }

    /// Records the close reason, duration and traffic of a session that has ended.
    pub fn record_session_end(&self, end: &SessionEnd) {
        let close = CloseLabels::new(end.code, end.by);
        self.session_closes.get_or_create(&close).inc();
        self.session_seconds.observe(end.duration.as_secs_f64());
        for (from, counts) in [(CLIENT, end.from_client), (BACKEND, end.from_backend)] {
            self.frames.get_or_create(&from).inc_by(counts.frames);
            self.messages.get_or_create(&from).inc_by(counts.messages);
            self.bytes.get_or_create(&from).inc_by(counts.bytes);
        }
    }

    /// Records the time from a handshake's request head until the backend has accepted it.
    pub fn record_handshake(&self, elapsed: Duration) {
        self.handshake_seconds.observe(elapsed.as_secs_f64());
    }

    /// Counts an answered plain HTTP request.
    pub fn count_request(&self, status: u16) {
        self.requests
            .get_or_create(&StatusClassLabels::class(status))
            .inc();
    }

    /// Counts a request that Lockgate refused; `why` comes from a closed set of words.
    pub fn count_refusal(&self, status: u16, why: &'static str) {
        self.refusals
            .get_or_create(&RefusalLabels { status, why })
            .inc();
    }

    /// Counts a request that a guard of `[guards]` has admitted or denied.
    pub(crate) fn count_guard(&self, guard: &str, admitted: bool) {
        let labels = GuardLabels {
            guard: guard.to_owned(),
            outcome: if admitted { "admitted" } else { "denied" },
        };
        self.guards.get_or_create(&labels).inc();
    }

    /// Counts a connection that ended before its first request; `why` comes from a closed set of words ("proxy-header",
    /// "deadline", "limit", …).
    pub fn count_connection_failure(&self, why: &'static str) {
        self.connection_failures
            .get_or_create(&WhyLabels { why })
            .inc();
    }

    /// Counts an ACME challenge answered for a CA.
    pub fn count_challenge(&self) {
        self.acme_challenges.inc();
    }

    /// Counts a finished certificate order: "issued" or "failed".
    pub fn count_order(&self, outcome: &'static str) {
        self.acme_orders
            .get_or_create(&OutcomeLabels { outcome })
            .inc();
    }

    /// Counts a configuration reload: "applied", "unchanged" or "refused".
    pub fn count_reload(&self, outcome: &'static str) {
        self.config_reloads
            .get_or_create(&OutcomeLabels { outcome })
            .inc();
    }

    /// Counts a DNS lookup of a pool's name: "answered" or "failed".
    pub fn count_dns_answer(&self, outcome: &'static str) {
        self.dns_answers
            .get_or_create(&OutcomeLabels { outcome })
            .inc();
    }

    /// Sets the expiry of the certificate that a configured host is served with, in Unix time.
    pub fn set_certificate_expiry(&self, host: &str, not_after: i64) {
        let host = HostLabels { host: host.into() };
        self.certificates.get_or_create(&host).set(not_after);
    }

    /// Removes the series of a host that is no longer configured.
    pub fn remove_certificate(&self, host: &str) {
        self.certificates.remove(&HostLabels { host: host.into() });
    }

    /// Creates the series of a configured backend, with no transition counted.
    pub fn add_backend(&self, pool: &str, backend: &str, up: bool, state: &'static str) {
        self.set_up(pool, backend, up);
        self.set_backend_state(pool, backend, state);
        for to in TRANSITIONS {
            drop(
                self.backend_transitions
                    .get_or_create(&TransitionLabels::new(pool, backend, to)),
            );
        }
    }

    /// Counts a change of a backend to "up", "down" or "ejected".
    pub fn record_transition(&self, pool: &str, backend: &str, to: &'static str) {
        self.set_up(pool, backend, to == UP);
        self.backend_transitions
            .get_or_create(&TransitionLabels::new(pool, backend, to))
            .inc();
    }

    /// Sets the state of a backend, one of `STATES`, and clears the others.
    pub fn set_backend_state(&self, pool: &str, backend: &str, state: &'static str) {
        for each in STATES {
            let labels = BackendStateLabels::new(pool, backend, each);
            let value = i64::from(each == state);
            self.backend_states.get_or_create(&labels).set(value);
        }
    }

    /// Removes the series of a backend that is no longer configured.
    pub fn remove_backend(&self, pool: &str, backend: &str) {
        self.backend_up.remove(&BackendLabels::new(pool, backend));
        for to in TRANSITIONS {
            self.backend_transitions
                .remove(&TransitionLabels::new(pool, backend, to));
        }
        for state in STATES {
            self.backend_states
                .remove(&BackendStateLabels::new(pool, backend, state));
        }
    }

    /// Counts a request that waits in the admission queue of a pool.
    pub fn waiting_gauge(&self, pool: &str) -> WaitingGauge {
        self.pools.waiting_gauge(pool)
    }

    /// Counts a request that the admission queue refused; `reason` comes from a closed set of words.
    pub fn count_admission_refusal(&self, pool: &str, reason: &'static str) {
        self.pools.count_admission_refusal(pool, reason);
    }

    /// Counts a retry: an attempt on a backend of the pool after an earlier one, on the same or another backend, has
    /// failed.
    pub fn count_retry(&self, pool: &str) {
        self.pools.count_retry(pool);
    }

    /// Returns all metrics in the OpenMetrics text format.
    pub fn encode(&self) -> String {
        let mut page = String::new();
        text::encode(&mut page, &self.registry).expect("writing to a String cannot fail");
        page
    }

    fn set_up(&self, pool: &str, backend: &str, up: bool) {
        let labels = BackendLabels::new(pool, backend);
        self.backend_up.get_or_create(&labels).set(i64::from(up));
    }

    // No counter is called `lockgate_connections_total`: in OpenMetrics it would belong to the family of the gauge.
    #[rustfmt::skip] // a table
    fn register(&mut self) {
        for from in [CLIENT, BACKEND] {
            for family in [&self.frames, &self.messages, &self.bytes] {
                drop(family.get_or_create(&from));
            }
        }
        let registry = &mut self.registry;
        registry.register("lockgate_build", "Version of lockgate", Info::new([("version", env!("CARGO_PKG_VERSION"))]));
        registry.register("lockgate_connections", "Open connections, including those of sessions", self.connections.clone());
        registry.register("lockgate_connections_accepted", "Connections accepted", self.connections_accepted.clone());
        registry.register("lockgate_connection_failures", "Connections that ended before their first request", self.connection_failures.clone());
        registry.register("lockgate_acme_challenges", "ACME challenges answered", self.acme_challenges.clone());
        registry.register("lockgate_acme_orders", "Finished certificate orders (ACME), by outcome", self.acme_orders.clone());
        registry.register("lockgate_certificate_not_after_timestamp_seconds", "Expiry of a host's certificate, in Unix time", self.certificates.clone());
        registry.register("lockgate_config_reloads", "Configuration reloads, by outcome", self.config_reloads.clone());
        registry.register("lockgate_dns_answers", "DNS lookups of names in pools, by outcome", self.dns_answers.clone());
        registry.register("lockgate_backend_up", "1 if a backend is neither down nor ejected, otherwise 0", self.backend_up.clone());
        registry.register("lockgate_backend_transitions", "Changes of a backend to up, down or ejected", self.backend_transitions.clone());
        registry.register("lockgate_backend_state", "1 for the current state of a backend, 0 for the others: up, warming, draining, down, ejected", self.backend_states.clone());
        registry.register("lockgate_sessions", "Live sessions", self.sessions.clone());
        registry.register("lockgate_sessions_opened", "Sessions opened", self.sessions_opened.clone());
        registry.register("lockgate_session_closes", "Sessions closed, by close code and initiator", self.session_closes.clone());
        registry.register("lockgate_requests", "Plain HTTP requests answered, by status class", self.requests.clone());
        registry.register("lockgate_requests_in_flight", "Plain HTTP requests in progress", self.requests_in_flight.clone());
        registry.register("lockgate_guard_requests", "Requests that a guard has admitted or denied", self.guards.clone());
        registry.register("lockgate_refusals", "Requests refused by lockgate, by status and reason", self.refusals.clone());
        self.pools.register(registry);
        registry.register("lockgate_frames", "Frames relayed, by sending leg; added when a session closes", self.frames.clone());
        registry.register("lockgate_messages", "Messages relayed, by sending leg; added when a session closes", self.messages.clone());
        registry.register("lockgate_bytes", "Bytes of frames relayed, by sending leg; added when a session closes", self.bytes.clone());
        registry.register_with_unit("lockgate_handshake", "Time from the head of a WebSocket handshake until the backend has accepted it", Unit::Seconds, self.handshake_seconds.clone());
        registry.register_with_unit("lockgate_session", "Duration of closed sessions", Unit::Seconds, self.session_seconds.clone());
        registry.register_collector(Box::new(ProcessCollector::new()));
    }
}

// === impl ConnectionGauge ===

impl Drop for ConnectionGauge {
    fn drop(&mut self) {
        self.0.connections.dec();
    }
}

// === impl RequestGauge ===

impl Drop for RequestGauge {
    fn drop(&mut self) {
        self.0.requests_in_flight.dec();
    }
}

// === impl SessionGauge ===

impl Drop for SessionGauge {
    fn drop(&mut self) {
        self.0.sessions.dec();
    }
}

// === impl DescriptorCollector ===

impl Collector for DescriptorCollector {
    fn encode(&self, mut encoder: DescriptorEncoder) -> fmt::Result {
        let gauge = |value: u64| ConstGauge::new(i64::try_from(value).unwrap_or(i64::MAX));
        for (name, help, value) in [
            (
                "lockgate_descriptors",
                "File descriptors of connections of clients and to backends.",
                self.0.used(),
            ),
            (
                "lockgate_descriptors_max",
                "The maximum of lockgate_descriptors.",
                self.0.max(),
            ),
        ] {
            let gauge = gauge(value);
            let descriptor = encoder.encode_descriptor(name, help, None, gauge.metric_type())?;
            gauge.encode(descriptor)?;
        }
        let idle = self.0.idle();
        let requests = self.0.used_for(DescriptorUse::Request);
        let mut family = encoder.encode_descriptor(
            "lockgate_backend_connections",
            "Open connections to backends, by use; idle ones await a request.",
            None,
            MetricType::Gauge,
        )?;
        for (purpose, value) in [
            ("session", self.0.used_for(DescriptorUse::Session)),
            ("request", requests.saturating_sub(idle)),
            ("idle", idle),
            ("health", self.0.used_for(DescriptorUse::Health)),
        ] {
            let labels = PurposeLabels { purpose };
            gauge(value).encode(family.encode_family(&labels)?)?;
        }
        Ok(())
    }
}

// === impl ProcessCollector ===

impl ProcessCollector {
    /// Creates the collector; the current time counts as the start of the process.
    fn new() -> Self {
        let since_epoch = SystemTime::now().duration_since(UNIX_EPOCH);
        ProcessCollector {
            started: since_epoch.unwrap_or_default().as_secs_f64(),
        }
    }
}

impl Collector for ProcessCollector {
    fn encode(&self, mut encoder: DescriptorEncoder) -> fmt::Result {
        let started = ConstGauge::new(self.started);
        let descriptor = encoder.encode_descriptor(
            "process_start_time",
            "Start time of the process, in Unix time.",
            Some(&Unit::Seconds),
            started.metric_type(),
        )?;
        started.encode(descriptor)?;
        let numbers = [
            (
                "process_resident_memory",
                "Resident memory.",
                Some(&Unit::Bytes),
                resident_bytes(),
            ),
            (
                "process_open_fds",
                "Open file descriptors.",
                None,
                open_descriptors(),
            ),
            (
                "process_max_fds",
                "Limit on open file descriptors.",
                None,
                getrlimit(Resource::Nofile).current,
            ),
        ];
        for (name, help, unit, value) in numbers {
            // A value that the system does not provide is omitted.
            let Some(value) = value else { continue };
            let gauge = ConstGauge::new(i64::try_from(value).unwrap_or(i64::MAX));
            let descriptor = encoder.encode_descriptor(name, help, unit, gauge.metric_type())?;
            gauge.encode(descriptor)?;
        }
        Ok(())
    }
}

fn open_descriptors() -> Option<u64> {
    // Since Linux 6.2 the size of the directory is the number of descriptors. Listing ten thousand takes milliseconds.
    match fs::metadata("/proc/self/fd").ok()?.len() {
        // Minus the descriptor that the listing itself uses.
        0 => Some((fs::read_dir("/proc/self/fd").ok()?.count() as u64).saturating_sub(1)),
        count => Some(count),
    }
}

const UP: &str = "up";

/// The states of a configured backend. One that has vanished from DNS has no series.
const STATES: [&str; 5] = [UP, "warming", "draining", "down", "ejected"];

const TRANSITIONS: [&str; 3] = [UP, "down", "ejected"];

const CLIENT: LegLabels = LegLabels { from: "client" };

const BACKEND: LegLabels = LegLabels { from: "backend" };

/// From the millisecond of a local backend to the default of `session.handshake_timeout`.
const HANDSHAKE_SECONDS: [f64; 13] = [
    0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0,
];

/// 1 s, 10 s, 1 min, 5 min, 30 min, 1 h, 6 h, 12 h, 1 d, 3 d, 7 d.
const SESSION_SECONDS: [f64; 11] = [
    1.0, 10.0, 60.0, 300.0, 1800.0, 3600.0, 21_600.0, 43_200.0, 86_400.0, 259_200.0, 604_800.0,
];

#[cfg(test)]
mod tests;
