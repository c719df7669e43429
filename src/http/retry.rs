//! The one retry loop: selects the backend for a request, and the next one if it fails before any byte of a response
//! has reached the client. WebSockets and plain requests differ only in what an [`Attempt`] does.

use crate::{
    gateway::route::Route,
    http::{context::Context, refusal::Refusal, request::RequestContext},
    net::random::jitter,
    router::path::NormalPath,
    upstream::{backend::Backend, balance_key::BalanceKey, lease::Lease, unavailable::Unavailable},
};
use ::http::request::Parts;
use futures_util::future::poll_immediate;
use std::{net::IpAddr, pin::pin, sync::Arc, time::Duration};
use tokio::time::{Instant, sleep};

/// The backends that a request has tried, and the number of attempts left.
pub(crate) struct Attempts<'a> {
    pub(crate) context: &'a Arc<Context>,
    pub(crate) key: BalanceKey,
    route: &'a Route,
    client: IpAddr,
    /// The end of the wait for the first lease.
    deadline: Instant,
    tried: Vec<Arc<Backend>>,
    /// Whether a part of the time was spent in the admission queue.
    queued: bool,
    attempts_left: u32,
    /// The time after which no further backend is tried.
    retry_deadline: Instant,
}

/// What is sent to each backend in turn.
pub(crate) trait Attempt {
    /// A response of a backend, with the lease.
    type Response: Send;

    /// Sends the request to the lease's backend, and reports to the lease whether it responded. `queued` is set if a
    /// part of the request's time was spent in the admission queue.
    fn send(
        &mut self,
        rc: &RequestContext<'_>,
        lease: Lease,
        queued: bool,
    ) -> impl Future<Output = AttemptOutcome<Self::Response>> + Send;
}

/// The outcome of one attempt.
pub(crate) enum AttemptOutcome<T> {
    /// The client receives this.
    Final(Result<T, Refusal>),
    /// Another backend may be tried; if there is none, the client receives `result`.
    Failed {
        kind: FailureKind,
        result: Result<T, Refusal>,
    },
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
    /// Creates the state before the first attempt. `path` is the normalised path.
    pub(crate) fn new(
        context: &'a Arc<Context>,
        rc: &RequestContext<'a>,
        parts: &Parts,
        path: &NormalPath<'_>,
    ) -> Self {
        let (route, client) = (rc.route(), rc.client);
        let query = parts.uri.query();
        let deadline = rc.handshake_deadline();
        Attempts {
            context,
            key: route.pool.key(&parts.headers, path.as_str(), query, client),
            route,
            client,
            deadline,
            tried: Vec::new(),
            queued: false,
            attempts_left: route.pool.retry().times,
            retry_deadline: deadline,
        }
    }

    /// Leases the first backend.
    pub(crate) async fn acquire(&mut self, rc: &mut RequestContext<'_>) -> Result<Lease, Refusal> {
        let acquired = self.acquire_until(self.deadline).await;
        let lease = acquired.inspect_err(|why| {
            if why.is_full() {
                let (metrics, pool) = (&self.context.metrics, self.route.pool.name());
                metrics.admission_refused(pool, why.as_str());
            }
        })?;
        // The time in the queue does not count towards the time for retries.
        self.retry_deadline = self
            .deadline
            .min(Instant::now() + self.route.pool.retry().within.0);
        rc.record.backend = Some(lease.backend().name().clone());
        Ok(lease)
    }

    /// Tries one backend after another, beginning with that of `lease`, until a response is final or no attempt is
    /// left.
    pub(crate) async fn run<A: Attempt>(
        &mut self,
        rc: &mut RequestContext<'_>,
        mut lease: Lease,
        attempt: &mut A,
    ) -> Result<A::Response, Refusal> {
        loop {
            let backend = lease.backend().clone();
            let (kind, result) = match attempt.send(rc, lease, self.queued).await {
                AttemptOutcome::Final(result) => return result,
                AttemptOutcome::Failed { kind, result } => (kind, result),
            };
            let Some(next) = self.next(backend, kind).await else {
                return result;
            };
            rc.record.backend = Some(next.backend().name().clone());
            lease = next;
        }
    }

    /// Leases another backend after `failed`; `None` if the client receives that failure.
    async fn next(&mut self, failed: Arc<Backend>, kind: FailureKind) -> Option<Lease> {
        if self.attempts_left == 0 || Instant::now() >= self.retry_deadline {
            return None;
        }
        self.attempts_left -= 1;
        if self.route.pool.has_several() {
            self.tried.push(failed);
        } else if kind == FailureKind::Connect {
            // The only backend is tried once more, because a server that restarts does not listen for a moment. A
            // response would be the same again. Jitter spreads the retries of simultaneous failures.
            self.attempts_left = 0;
            sleep(RETRY_BACKOFF + jitter(RETRY_BACKOFF)).await;
        } else {
            return None;
        }
        let lease = self.acquire_until(self.retry_deadline).await.ok()?;
        self.context.metrics.retried(self.route.pool.name());
        Some(lease)
    }

    async fn acquire_until(&mut self, deadline: Instant) -> Result<Lease, Unavailable> {
        let pool = &self.route.pool;
        let mut acquired = pin!(pool.acquire(self.key, self.client, &self.tried, deadline));
        match poll_immediate(&mut acquired).await {
            Some(lease) => lease,
            None => {
                self.queued = true;
                let _waiting = self.context.metrics.waiting(pool.name());
                acquired.await
            }
        }
    }
}

/// Long enough for many restarts of a server, and not noticeable to a user.
const RETRY_BACKOFF: Duration = Duration::from_millis(100);
