//! The one retry loop: selects the backend for a request, and the next one if it fails before any byte of a response
//! has reached the client. WebSockets and plain requests differ only in what an [`Attempt`] does.

use crate::{
    gateway::route::Route,
    http::{refusal::Refusal, request::RequestContext},
    net::random::jitter,
    observe::metrics::Metrics,
    upstream::{backend::Backend, balance_key::BalanceKey, lease::Lease, unavailable::Unavailable},
};
use futures_util::future::poll_immediate;
use std::{
    net::IpAddr,
    pin::pin,
    sync::{Arc, atomic::Ordering},
    time::Duration,
};
use tokio::time::{Instant, sleep};

/// The backends that a request has tried, and the number of attempts left.
pub(crate) struct Attempts<'a> {
    pub(crate) key: BalanceKey,
    metrics: &'a Metrics,
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

/// What an attempt knows about the time of its request.
#[derive(Debug, Clone, Copy)]
pub(crate) struct AttemptTime {
    /// Whether a part of it was spent in the admission queue.
    pub(crate) queued: bool,
    /// The time until which another backend may be tried after this one; `None`: there is no other.
    pub(crate) retry_until: Option<Instant>,
}

/// What is sent to each backend in turn.
pub(crate) trait Attempt {
    /// A response of a backend, with the lease.
    type Response: Send;

    /// Sends the request to the lease's backend, and reports to the lease whether it responded.
    fn send(
        &mut self,
        rc: &RequestContext<'_>,
        lease: Lease,
        time: AttemptTime,
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
    /// Creates the state before the first attempt.
    pub(crate) fn new(
        metrics: &'a Metrics,
        rc: &RequestContext<'_>,
        route: &'a Route,
        key: BalanceKey,
    ) -> Self {
        let deadline = rc.handshake_deadline(route);
        Attempts {
            metrics,
            key,
            route,
            client: rc.client,
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
                self.metrics
                    .count_admission_refusal(self.route.pool.name(), why.as_str());
            }
        })?;
        if self.queued && self.route.draining.load(Ordering::Relaxed) {
            return Err(Refusal::draining());
        }
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
            let time = AttemptTime {
                queued: self.queued,
                retry_until: self.may_retry(&backend).then_some(self.retry_deadline),
            };
            let (kind, result) = match attempt.send(rc, lease, time).await {
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

    /// Returns whether another backend than `current` may be tried after it.
    fn may_retry(&self, current: &Arc<Backend>) -> bool {
        self.attempts_left > 0 && self.route.pool.has_other(current, &self.tried)
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
        self.metrics.count_retry(self.route.pool.name());
        Some(lease)
    }

    async fn acquire_until(&mut self, deadline: Instant) -> Result<Lease, Unavailable> {
        let pool = &self.route.pool;
        let mut acquired = pin!(pool.acquire(self.key, self.client, &self.tried, deadline));
        match poll_immediate(&mut acquired).await {
            Some(lease) => lease,
            None => {
                self.queued = true;
                let _waiting_gauge = self.metrics.waiting_gauge(pool.name());
                acquired.await
            }
        }
    }
}

/// Long enough for many restarts of a server, and not noticeable to a user.
const RETRY_BACKOFF: Duration = Duration::from_millis(100);

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        config::Config,
        gateway::Gateway,
        http::{
            peer::Peer,
            refusal::{NoResponse, RefusalReason},
        },
        tls::{certs::CertIssuers, testing::Pki},
    };

    /// Fails on the first `failures` backends.
    struct FailingAttempt {
        failures: usize,
        kind: FailureKind,
        /// The time that each backend takes.
        delay: Duration,
        /// The names of the tried backends.
        tried: Vec<Arc<str>>,
    }

    impl Attempt for FailingAttempt {
        type Response = Arc<str>;

        async fn send(
            &mut self,
            _: &RequestContext<'_>,
            lease: Lease,
            _: AttemptTime,
        ) -> AttemptOutcome<Arc<str>> {
            sleep(self.delay).await;
            let name = lease.backend().name().clone();
            self.tried.push(name.clone());
            if self.tried.len() > self.failures {
                return AttemptOutcome::Final(Ok(name));
            }
            AttemptOutcome::Failed {
                kind: self.kind,
                result: Err(Refusal::no_response(NoResponse::Broken)),
            }
        }
    }

    fn attempt(failures: usize, kind: FailureKind) -> FailingAttempt {
        FailingAttempt {
            failures,
            kind,
            delay: Duration::ZERO,
            tried: Vec::new(),
        }
    }

    /// Runs `attempt` on a pool of `backends` members.
    async fn run(backends: usize, attempt: &mut FailingAttempt) -> Result<Arc<str>, RefusalReason> {
        let backends: Vec<String> = (1..=backends)
            .map(|n| format!("\"ws://192.0.2.{n}:80\""))
            .collect();
        let pki = Pki::new();
        pki.pair("a", &["a.test"]);
        let file = pki.write(
            "lockgate.toml",
            format!(
                "tls.certificates = [{{ cert = \"a.pem\", key = \"a.key\" }}]\n\
                 [pools.p]\nbackends = [{}]\nretry = {{ times = 2, within = \"5s\" }}\n\
                 [[routes]]\nhosts = [\"a.test\"]\npool = \"p\"\n",
                backends.join(", ")
            ),
        );
        let config = Config::load(&file).unwrap();
        let gateway = Gateway::build(&config, None, &CertIssuers::default()).unwrap();
        gateway.commit();
        let (_, route) = gateway.router.rules().next().unwrap();
        let (parts, ()) = ::http::Request::new(()).into_parts();
        let client = IpAddr::from([198, 51, 100, 1]);
        let peer = Peer::new((client, 0).into(), ([0; 4], 0).into());
        let mut rc = RequestContext::new(&gateway, None, peer, &parts);
        let metrics = Metrics::new();
        let mut attempts = Attempts::new(&metrics, &rc, route, BalanceKey::default());
        let lease = attempts.acquire(&mut rc).await.unwrap();
        let result = attempts.run(&mut rc, lease, attempt).await;
        assert_eq!(rc.record.backend.as_ref(), attempt.tried.last());
        result.map_err(|refusal| refusal.why)
    }

    #[tokio::test(start_paused = true)]
    async fn failure_is_followed_by_attempt_on_other_backend() {
        for kind in [FailureKind::Connect, FailureKind::Response] {
            let mut attempt = attempt(1, kind);
            let answered = run(2, &mut attempt).await;
            assert_eq!(attempt.tried.len(), 2);
            assert_ne!(attempt.tried[0], attempt.tried[1]);
            assert_eq!(answered.as_ref(), Ok(&attempt.tried[1]));
        }
    }

    #[tokio::test(start_paused = true)]
    async fn last_failure_is_final_after_configured_number_of_retries() {
        let mut attempt = attempt(9, FailureKind::Response);
        assert_eq!(run(5, &mut attempt).await, Err(RefusalReason::Broken));
        assert_eq!(attempt.tried.len(), 3);
        attempt.tried.sort();
        attempt.tried.dedup();
        assert_eq!(attempt.tried.len(), 3);
    }

    #[tokio::test(start_paused = true)]
    async fn only_backend_is_dialled_once_more_after_a_pause() {
        let mut attempt = attempt(9, FailureKind::Connect);
        let started = Instant::now();
        assert_eq!(run(1, &mut attempt).await, Err(RefusalReason::Broken));
        assert_eq!(attempt.tried.len(), 2);
        assert!(started.elapsed() >= RETRY_BACKOFF);
    }

    #[tokio::test(start_paused = true)]
    async fn response_of_only_backend_is_final() {
        let mut attempt = attempt(9, FailureKind::Response);
        assert_eq!(run(1, &mut attempt).await, Err(RefusalReason::Broken));
        assert_eq!(attempt.tried.len(), 1);
    }

    #[tokio::test(start_paused = true)]
    async fn no_retry_starts_after_the_time_for_retries() {
        let mut attempt = attempt(9, FailureKind::Response);
        attempt.delay = Duration::from_secs(6);
        assert_eq!(run(5, &mut attempt).await, Err(RefusalReason::Broken));
        assert_eq!(attempt.tried.len(), 1);
    }
}
