//! Metrics per pool: queued requests, refusals of the admission queue, retries.

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

/// A guard that counts a request in the admission queue until it is dropped.
#[derive(Debug)]
pub struct WaitingGauge(Gauge);

// === impl PoolMetrics ===

impl PoolMetrics {
    #[rustfmt::skip] // a table
    pub(super) fn register(&self, registry: &mut Registry) {
        registry.register("lockgate_admission_waiting", "Requests waiting in the admission queue", self.waiting.clone());
        registry.register("lockgate_admission_refused", "Requests refused by the admission queue, by reason", self.refused.clone());
        registry.register("lockgate_retries", "Attempts on a backend after an earlier attempt had failed", self.retries.clone());
    }
}

// === impl Metrics ===

impl Metrics {
    /// Counts a request that waits in the admission queue of a pool.
    pub fn waiting(&self, pool: &str) -> WaitingGauge {
        let gauge = self
            .pools
            .waiting
            .get_or_create(&PoolLabels::new(pool))
            .clone();
        gauge.inc();
        WaitingGauge(gauge)
    }

    /// Counts a request that the admission queue refused; `reason` comes from a closed set of words.
    pub fn admission_refused(&self, pool: &str, reason: &'static str) {
        let pool = pool.into();
        let labels = QueueRefusalLabels { pool, reason };
        self.pools.refused.get_or_create(&labels).inc();
    }

    /// Counts a retry: an attempt on a backend of the pool after an earlier one, on the same or another backend, has failed.
    pub fn retried(&self, pool: &str) {
        self.pools
            .retries
            .get_or_create(&PoolLabels::new(pool))
            .inc();
    }
}

// === impl WaitingGauge ===

impl Drop for WaitingGauge {
    fn drop(&mut self) {
        self.0.dec();
    }
}
