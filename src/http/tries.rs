//! Selects the backend for a request, and the next one if it fails before any byte of a response has reached the client.

use super::{Context, asked::RouteInfo, reject::Refusal};
use crate::{
    gateway::Route,
    upstream::{Backend, BalanceKey, Lease, Unavailable},
};
use futures_util::future::poll_immediate;
use std::{
    net::IpAddr,
    pin::pin,
    sync::Arc,
    time::{Duration, SystemTime, UNIX_EPOCH},
};
use tokio::time::{Instant, sleep};

/// The backends that a request has tried, and how many it may still try.
pub(super) struct Attempts<'a> {
    pub(super) context: &'a Context,
    pub(super) route: &'a Route,
    pub(super) key: BalanceKey,
    client: IpAddr,
    /// The end of the wait for a lease.
    deadline: Instant,
    tried: Vec<Arc<Backend>>,
    /// Whether a part of the time was spent in the admission queue.
    pub(super) waited: bool,
    left: u32,
    /// The deadline for trying the last backend.
    end: Instant,
}

/// How a backend failed, for the failures after which another one may be tried.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum FailureKind {
    /// It was not reached: it cannot have processed anything.
    Dial,
    /// It was reached.
    Answer,
}

// === impl Attempts ===

impl<'a> Attempts<'a> {
    /// Creates the state before the first attempt.
    pub(super) fn new(
        context: &'a Context,
        route: &'a Route,
        key: BalanceKey,
        client: IpAddr,
        started: Instant,
    ) -> Self {
        let deadline = started + route.handshake_timeout;
        Attempts {
            context,
            route,
            key,
            client,
            deadline,
            tried: Vec::new(),
            waited: false,
            left: route.pool.retry().times,
            end: deadline,
        }
    }

    /// Returns whether another attempt may follow this one.
    pub(super) fn can_retry(&self) -> bool {
        self.left > 0
    }

    /// Leases the first backend.
    pub(super) async fn first(&mut self, trail: &mut RouteInfo) -> Result<Lease, Refusal> {
        let admitted = self.admit(self.deadline).await;
        let lease = admitted.inspect_err(|why| {
            if why.is_full() {
                let (metrics, pool) = (&self.context.metrics, self.route.pool.name());
                metrics.admission_refused(pool, why.as_str());
            }
        })?;
        // Time in the queue is not the backend's.
        self.end = self
            .deadline
            .min(Instant::now() + self.route.pool.retry().within.0);
        trail.backend = Some(lease.backend().name().clone());
        Ok(lease)
    }

    /// Leases another backend after `failed`; `None` if that failure is what the client receives.
    pub(super) async fn next(
        &mut self,
        failed: Arc<Backend>,
        failure: FailureKind,
        trail: &mut RouteInfo,
    ) -> Option<Lease> {
        if self.left == 0 || Instant::now() >= self.end {
            return None;
        }
        self.left -= 1;
        if self.route.pool.has_several() {
            self.tried.push(failed);
        } else if failure == FailureKind::Dial {
            // A server that is being restarted does not listen for a moment. One that responds has given its final
            // response, and a failure has to be reported soon: so only once. Jitter keeps simultaneous failures apart.
            self.left = 0;
            sleep(RETRY_BACKOFF + jitter()).await;
        } else {
            return None;
        }
        let lease = self.admit(self.end).await.ok()?;
        self.context.metrics.retried(self.route.pool.name());
        trail.backend = Some(lease.backend().name().clone());
        Some(lease)
    }

    async fn admit(&mut self, until: Instant) -> Result<Lease, Unavailable> {
        let pool = &self.route.pool;
        let mut acquired = pin!(pool.acquire(self.key, self.client, &self.tried, until));
        match poll_immediate(&mut acquired).await {
            Some(lease) => lease,
            None => {
                self.waited = true;
                let _waiting = self.context.metrics.waiting(pool.name());
                acquired.await
            }
        }
    }
}

/// Adds up to the same time again, from the unpredictable part of the clock.
fn jitter() -> Duration {
    let now = SystemTime::now().duration_since(UNIX_EPOCH);
    RETRY_BACKOFF.mul_f64(f64::from(now.map_or(0, |now| now.subsec_nanos()) % 1000) / 1000.0)
}

/// Enough for a server that restarts, and not noticeable to a user.
const RETRY_BACKOFF: Duration = Duration::from_millis(100);
