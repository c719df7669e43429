//! What is counted for each pool: who waits, who got no place, who was tried again.

use super::{
    Metrics,
    labels::{PoolLabels, QueueRefusalLabels},
};
use prometheus_client::{
    metrics::{counter::Counter, family::Family, gauge::Gauge},
    registry::Registry,
};

#[derive(Debug, Default)]
pub(super) struct PoolMetrics {
    waiting: Family<PoolLabels, Gauge>,
    refused: Family<QueueRefusalLabels, Counter>,
    retries: Family<PoolLabels, Counter>,
}

/// A request that waits for a place on a backend: counted until dropped.
#[derive(Debug)]
pub struct WaitingGauge(Gauge);

// === impl PoolMetrics ===

impl PoolMetrics {
    #[rustfmt::skip] // a table
    pub(super) fn register(&self, all: &mut Registry) {
        all.register("lockgate_admission_waiting", "Requests that wait for a place on a backend", self.waiting.clone());
        all.register("lockgate_admission_refused", "Requests that got no place, by reason", self.refused.clone());
        all.register("lockgate_retries", "How often a backend was tried after another had failed", self.retries.clone());
    }
}

// === impl Metrics ===

impl Metrics {
    /// A request waits for a place on a backend of a pool.
    pub fn waiting(&self, pool: &str) -> WaitingGauge {
        let gauge = self
            .pools
            .waiting
            .get_or_create(&PoolLabels::of(pool))
            .clone();
        gauge.inc();
        WaitingGauge(gauge)
    }

    /// It got none; `reason` is of a closed set.
    pub fn admission_refused(&self, pool: &str, reason: &'static str) {
        let pool = pool.into();
        let surplus = QueueRefusalLabels { pool, reason };
        self.pools.refused.get_or_create(&surplus).inc();
    }

    /// A backend of the pool is tried after another, or itself, has failed.
    pub fn retried(&self, pool: &str) {
        self.pools
            .retries
            .get_or_create(&PoolLabels::of(pool))
            .inc();
    }
}

// === impl WaitingGauge ===

impl Drop for WaitingGauge {
    fn drop(&mut self) {
        self.0.dec();
    }
}
