//! Counters, gauges and histograms, all with closed label sets: nobody outside can make a new series. What a session
//! carried is added when it closes, so that the frames themselves cost nothing here.

mod backends;
mod flow;
mod labels;
mod pools;
mod process;

pub use flow::{LegMetrics, SessionMetrics};
pub use pools::WaitingGauge;

use super::access::SessionEnd;
use labels::{
    BackendLabels, BackendStateLabels, CloseLabels, HostLabels, LegLabels, OutcomeLabels,
    RefusalLabels, StatusClassLabels, TransitionLabels, WhyLabels,
};
use pools::PoolMetrics;
use process::ProcessCollector;
use prometheus_client::{
    encoding::text,
    metrics::{counter::Counter, family::Family, gauge::Gauge, histogram::Histogram, info::Info},
    registry::{Registry, Unit},
};
use std::{sync::Arc, time::Duration};

/// All metrics of the process.
#[derive(Debug)]
pub struct Metrics {
    registry: Registry,
    connections: Gauge,
    connections_accepted: Counter,
    connection_failures: Family<WhyLabels, Counter>,
    challenges: Counter,
    orders: Family<OutcomeLabels, Counter>,
    reloads: Family<OutcomeLabels, Counter>,
    dns: Family<OutcomeLabels, Counter>,
    certificates: Family<HostLabels, Gauge>,
    backends: Family<BackendLabels, Gauge>,
    transitions: Family<TransitionLabels, Counter>,
    states: Family<BackendStateLabels, Gauge>,
    sessions: Gauge,
    sessions_opened: Counter,
    session_closes: Family<CloseLabels, Counter>,
    requests: Family<StatusClassLabels, Counter>,
    refusals: Family<RefusalLabels, Counter>,
    pools: PoolMetrics,
    frames: Family<LegLabels, Counter>,
    messages: Family<LegLabels, Counter>,
    bytes: Family<LegLabels, Counter>,
    handshake: Histogram,
    session: Histogram,
    flow: Arc<SessionMetrics>,
}

/// An open connection: counted until dropped.
#[derive(Debug)]
pub struct ConnectionGauge(Arc<Metrics>);

/// A live session: counted until dropped.
#[derive(Debug)]
pub struct SessionGauge(Arc<Metrics>);

// === impl Metrics ===

impl Metrics {
    /// Nothing has happened yet; the process starts now.
    #[allow(clippy::new_without_default)] // its time of birth is part of it
    pub fn new() -> Self {
        let mut registry = Registry::default();
        let flow = Arc::new(SessionMetrics::new(&mut registry));
        let mut metrics = Metrics {
            registry,
            connections: Gauge::default(),
            connections_accepted: Counter::default(),
            connection_failures: Family::default(),
            challenges: Counter::default(),
            orders: Family::default(),
            reloads: Family::default(),
            dns: Family::default(),
            certificates: Family::default(),
            backends: Family::default(),
            transitions: Family::default(),
            states: Family::default(),
            sessions: Gauge::default(),
            sessions_opened: Counter::default(),
            session_closes: Family::default(),
            requests: Family::default(),
            refusals: Family::default(),
            pools: PoolMetrics::default(),
            frames: Family::default(),
            messages: Family::default(),
            bytes: Family::default(),
            handshake: Histogram::new(HANDSHAKE_SECONDS),
            session: Histogram::new(SESSION_SECONDS),
            flow,
        };
        metrics.register();
        metrics
    }

    /// A connection was accepted.
    pub fn connection(self: &Arc<Self>) -> ConnectionGauge {
        self.connections_accepted.inc();
        self.connections.inc();
        ConnectionGauge(self.clone())
    }

    /// A session opened.
    pub fn session(self: &Arc<Self>) -> SessionGauge {
        self.sessions_opened.inc();
        self.sessions.inc();
        SessionGauge(self.clone())
    }

    /// What live sessions tell.
    pub fn flow(&self) -> &Arc<SessionMetrics> {
        &self.flow
    }

    /// Live connections.
    pub fn connections(&self) -> u64 {
        self.connections.get().max(0).unsigned_abs()
    }

    /// Live sessions.
    pub fn sessions(&self) -> u64 {
        self.sessions.get().max(0).unsigned_abs()
    }

    /// A session ended.
    pub fn session_closed(&self, end: &SessionEnd) {
        let close = CloseLabels::new(end.code, end.by);
        self.session_closes.get_or_create(&close).inc();
        self.session.observe(end.duration.as_secs_f64());
        for (from, counts) in [(CLIENT, end.from_client), (BACKEND, end.from_backend)] {
            self.frames.get_or_create(&from).inc_by(counts.frames);
            self.messages.get_or_create(&from).inc_by(counts.messages);
            self.bytes.get_or_create(&from).inc_by(counts.bytes);
        }
    }

    /// From a request's head to the 101.
    pub fn handshake(&self, elapsed: Duration) {
        self.handshake.observe(elapsed.as_secs_f64());
    }

    /// A plain HTTP request was answered.
    pub fn request(&self, status: u16) {
        self.requests
            .get_or_create(&StatusClassLabels::class(status))
            .inc();
    }

    /// A request was refused by us; `why` is of a closed set.
    pub fn refused(&self, status: u16, why: &'static str) {
        self.refusals
            .get_or_create(&RefusalLabels { status, why })
            .inc();
    }

    /// A connection ended before its first request; `why` is of a closed set ("tls", "proxy-header", "deadline", "limit", …).
    pub fn connection_failed(&self, why: &'static str) {
        self.connection_failures
            .get_or_create(&WhyLabels { why })
            .inc();
    }

    /// A CA that asked whether a host is ours has its answer.
    pub fn challenge_answered(&self) {
        self.challenges.inc();
    }

    /// An order of a certificate came to an end: "issued" or "failed".
    pub fn order(&self, outcome: &'static str) {
        self.orders.get_or_create(&OutcomeLabels { outcome }).inc();
    }

    /// The configuration was read again: "applied", "unchanged" or "refused".
    pub fn reload(&self, outcome: &'static str) {
        self.reloads.get_or_create(&OutcomeLabels { outcome }).inc();
    }

    /// DNS was asked for a name of a pool: "answered" or "failed".
    pub fn dns(&self, outcome: &'static str) {
        self.dns.get_or_create(&OutcomeLabels { outcome }).inc();
    }

    /// A host of the config is served with a certificate whose last moment is `not_after`, in seconds since 1970.
    pub fn certificate(&self, host: &str, not_after: i64) {
        let host = HostLabels { host: host.into() };
        self.certificates.get_or_create(&host).set(not_after);
    }

    /// The config names that host no more.
    pub fn remove_certificate(&self, host: &str) {
        self.certificates.remove(&HostLabels { host: host.into() });
    }

    /// All of it, in the OpenMetrics text format.
    pub fn encode(&self) -> String {
        let mut page = String::new();
        text::encode(&mut page, &self.registry).expect("a String takes all that is written");
        page
    }

    // The counters are not called `lockgate_connections_total`: in OpenMetrics that would be the same family as the gauge.
    #[rustfmt::skip] // a table
    fn register(&mut self) {
        for from in [CLIENT, BACKEND] {
            for family in [&self.frames, &self.messages, &self.bytes] {
                drop(family.get_or_create(&from));
            }
        }
        let all = &mut self.registry;
        all.register("lockgate_build", "The program", Info::new([("version", env!("CARGO_PKG_VERSION"))]));
        all.register("lockgate_connections", "Open connections, those of sessions included", self.connections.clone());
        all.register("lockgate_connections_accepted", "Connections accepted", self.connections_accepted.clone());
        all.register("lockgate_connection_failures", "Connections that ended before their first request", self.connection_failures.clone());
        all.register("lockgate_acme_challenges", "Answers to CAs that asked whether a host is ours (ACME)", self.challenges.clone());
        all.register("lockgate_acme_orders", "Orders of certificates that came to an end, by outcome", self.orders.clone());
        all.register("lockgate_certificate_not_after_timestamp_seconds", "The last moment of a host's certificate, since 1970", self.certificates.clone());
        all.register("lockgate_config_reloads", "How often the configuration was read again, by outcome", self.reloads.clone());
        all.register("lockgate_dns_answers", "How often DNS was asked for a name of a pool, by outcome", self.dns.clone());
        all.register("lockgate_backend_up", "Whether a backend is neither down nor ejected", self.backends.clone());
        all.register("lockgate_backend_transitions", "How often a backend has become up, down or ejected", self.transitions.clone());
        all.register("lockgate_backend_state", "1 for the state that a backend is in, 0 for the others: up, warming, draining, down, ejected", self.states.clone());
        all.register("lockgate_sessions", "Live sessions", self.sessions.clone());
        all.register("lockgate_sessions_opened", "Sessions opened", self.sessions_opened.clone());
        all.register("lockgate_session_closes", "Sessions closed, by close code and by who closed", self.session_closes.clone());
        all.register("lockgate_requests", "Plain HTTP requests that were answered, by class of status", self.requests.clone());
        all.register("lockgate_refusals", "Requests that lockgate refused itself", self.refusals.clone());
        self.pools.register(all);
        all.register("lockgate_frames", "Frames relayed, by the leg they came from; added when a session closes", self.frames.clone());
        all.register("lockgate_messages", "Messages relayed, by the leg they came from; added when a session closes", self.messages.clone());
        all.register("lockgate_bytes", "Bytes of frames relayed, by the leg they came from; added when a session closes", self.bytes.clone());
        all.register_with_unit("lockgate_handshake", "From a request's head to the 101", Unit::Seconds, self.handshake.clone());
        all.register_with_unit("lockgate_session", "Length of sessions, when they close", Unit::Seconds, self.session.clone());
        all.register_collector(Box::new(ProcessCollector::starting()));
    }
}

// === impl ConnectionGauge ===

impl Drop for ConnectionGauge {
    fn drop(&mut self) {
        self.0.connections.dec();
    }
}

// === impl SessionGauge ===

impl Drop for SessionGauge {
    fn drop(&mut self) {
        self.0.sessions.dec();
    }
}

const CLIENT: LegLabels = LegLabels { from: "client" };
const BACKEND: LegLabels = LegLabels { from: "backend" };

/// From a loopback's millisecond to `session.handshake_timeout`.
const HANDSHAKE_SECONDS: [f64; 13] = [
    0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0,
];

/// A second, ten, a minute, five, half an hour, an hour, six, twelve, a day, three, a week.
const SESSION_SECONDS: [f64; 11] = [
    1.0, 10.0, 60.0, 300.0, 1800.0, 3600.0, 21_600.0, 43_200.0, 86_400.0, 259_200.0, 604_800.0,
];

#[cfg(test)]
mod tests;
