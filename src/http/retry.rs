//! Selects the backend for a request, and the next one if it fails before any byte of a response has reached the
//! client.

use crate::{
    gateway::route::Route,
    http::{Context, refusal::Refusal, request::RouteInfo},
    net::random::jitter,
    upstream::{backend::Backend, balance_key::BalanceKey, lease::Lease, unavailable::Unavailable},
};
use futures_util::future::poll_immediate;
use std::{net::IpAddr, pin::pin, sync::Arc, time::Duration};
use tokio::time::{Instant, sleep};

/// The backends that a request has tried, and the number of attempts left.
pub(crate) struct Attempts<'a> {
    pub(crate) context: &'a Context,
    pub(crate) route: &'a Route,
    pub(crate) key: BalanceKey,
    client: IpAddr,
    /// The end of the wait for the first lease.
    deadline: Instant,
    tried: Vec<Arc<Backend>>,
    /// Whether a part of the time was spent in the admission queue.
    pub(crate) waited: bool,
    attempts_left: u32,
    /// The time after which no further backend is tried.
    retry_deadline: Instant,
}

/// The kind of a failure after which another backend may be tried.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum FailureKind {
    /// The backend was not reached, so it cannot have processed anything.
    Connect,
    /// The backend was reached, but has not responded properly.
    Response,
}

// === impl Attempts ===

impl<'a> Attempts<'a> {
    /// Creates the state before the first attempt.
    pub(crate) fn new(
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
            attempts_left: route.pool.retry().times,
            retry_deadline: deadline,
        }
    }

    /// Returns whether another attempt may follow this one.
    pub(crate) fn can_retry(&self) -> bool {
        self.attempts_left > 0
    }

    /// Leases the first backend.
    pub(crate) async fn first(&mut self, route_info: &mut RouteInfo) -> Result<Lease, Refusal> {
        let admitted = self.admit(self.deadline).await;
        let lease = admitted.inspect_err(|why| {
            if why.is_full() {
                let (metrics, pool) = (&self.context.metrics, self.route.pool.name());
                metrics.admission_refused(pool, why.as_str());
            }
        })?;
        // The time in the queue does not count towards the time for retries.
        self.retry_deadline = self
            .deadline
            .min(Instant::now() + self.route.pool.retry().within.0);
        route_info.backend = Some(lease.backend().name().clone());
        Ok(lease)
    }

    /// Leases another backend after `failed`; `None` if the client receives that failure.
    pub(crate) async fn next(
        &mut self,
        failed: Arc<Backend>,
        failure: FailureKind,
        route_info: &mut RouteInfo,
    ) -> Option<Lease> {
        if self.attempts_left == 0 || Instant::now() >= self.retry_deadline {
            return None;
        }
        self.attempts_left -= 1;
        if self.route.pool.has_several() {
            self.tried.push(failed);
        } else if failure == FailureKind::Connect {
            // The only backend is tried once more, because a server that restarts does not listen for a moment. A
            // response would be the same again. Jitter spreads the retries of simultaneous failures.
            self.attempts_left = 0;
            sleep(RETRY_BACKOFF + jitter(RETRY_BACKOFF)).await;
        } else {
            return None;
        }
        let lease = self.admit(self.retry_deadline).await.ok()?;
        self.context.metrics.retried(self.route.pool.name());
        route_info.backend = Some(lease.backend().name().clone());
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

/// Long enough for many restarts of a server, and not noticeable to a user.
const RETRY_BACKOFF: Duration = Duration::from_millis(100);
