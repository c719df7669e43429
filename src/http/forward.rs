//! Plain HTTP on a route: to the same backends, streamed both ways without buffering.

use crate::{
    http::{
        admitted::AdmittedRequest,
        body::{self, Body, BodyStatus, ReplayableBody},
        client::{ConnectionUse, HttpClient, RequestSender, SendError},
        context::Context,
        progress::ProgressLimits,
        refusal::{NoResponse, Refusal, RefusalReason, warn_backend_failure, warn_exhaustion},
        request::RequestContext,
        request_body::RequestBody,
        retry::{Attempt, AttemptOutcome, AttemptTime, Attempts, FailureKind},
        rewrite,
    },
    upstream::{
        balance_key::Affinity,
        connect::{BackendDialer, ConnectLimits},
        lease::Lease,
    },
};
use ::http::{Request, Response, StatusCode};
use hyper::body::{Body as _, Incoming};
use std::{
    pin::pin,
    sync::{Arc, atomic::Ordering},
    time::Duration,
};
use tokio::time::{Instant, error::Elapsed, timeout};

/// A plain request to one backend.
struct ForwardAttempt<'a> {
    client: &'a HttpClient,
    request: &'a AdmittedRequest<'a, 'a>,
    body: ReplayableBody,
    body_status: Arc<BodyStatus>,
    is_repeatable: bool,
    /// `limits.answer_idle`.
    answer_idle: Duration,
}

/// The error of a backend that did not respond.
#[derive(Debug, thiserror::Error)]
#[error("no answer within {0:?} (limits.answer_idle)")]
struct ResponseTimeout(Duration);

/// Sends the request to one backend after another until one responds or no attempt is left, and returns the response
/// for the client.
pub(crate) async fn forward(
    context: &Arc<Context>,
    rc: &mut RequestContext<'_>,
    request: &AdmittedRequest<'_, '_>,
    body: RequestBody,
) -> Result<Response<Body>, Refusal> {
    let (parts, route) = (request.parts, request.route);
    let cookie_key = request.balance_key(rc.client);
    let mut attempts = Attempts::new(&context.metrics, rc, route, cookie_key);
    // The messages of an authentication handshake go to one backend.
    if attempts.key.bound().is_none()
        && let Some(id_hash) = rc.peer.bound.backend(route.pool.name(), rc.client)
    {
        let only = false;
        attempts.key = attempts.key.bound_to(Some(Affinity { id_hash, only }));
    }
    let limits = &rc.gateway.limits;
    let answer_idle = limits.answer_idle.0;
    let lease = attempts.acquire(rc).await?;
    let body_status = Arc::new(BodyStatus::default());
    let mut attempt = ForwardAttempt {
        client: &context.http_client,
        request,
        // RFC 9110 §9.2.2: only an idempotent request may be sent twice.
        is_repeatable: parts.method.is_idempotent() && body.is_end_stream(),
        body: ReplayableBody::new(body::request_body(
            body,
            ProgressLimits::of_client(limits),
            body_status.clone(),
        )),
        body_status,
        answer_idle,
    };
    let (lease, response, connection) = attempts.run(rc, lease, &mut attempt).await?;
    lease.record_plain_response();
    let (mut response, incoming) = response.into_parts();
    rewrite::rewrite_response(&mut response, parts)?;
    rewrite::set_cookie(&route.pool, cookie_key, &lease, &mut response.headers);
    let query = request.outbound.target.query();
    let sid_capture = route.pool.sid_capture(query, &lease, rc.client);
    let canceller = attempt.body.canceller();
    let guards = (
        rc.in_flight.take(),
        rc.client_permit.take(),
        lease,
        connection,
    );
    let body = body::response_body(incoming, answer_idle, Some(canceller), guards);
    Ok(Response::from_parts(
        response,
        rewrite::capture_sid(body, sid_capture),
    ))
}

// === impl ForwardAttempt ===

impl Attempt for ForwardAttempt<'_> {
    type Response = (Lease, Response<Incoming>, ConnectionUse);

    async fn send(
        &mut self,
        rc: &RequestContext<'_>,
        lease: Lease,
        time: AttemptTime,
    ) -> AttemptOutcome<Self::Response> {
        let response = {
            let (timeout_after, now) = (self.request.route.handshake_timeout, Instant::now());
            let limits = ConnectLimits::new(
                lease.connect_timeout(),
                now + timeout_after,
                time.retry_until,
                now,
            );
            let dialer = lease.dialer(rc.peer.addrs(), limits);
            let mut pending = pin!(self.await_response(&lease, &dialer, rc));
            tokio::select! {
                response = &mut pending => response,
                // A slow client or a response that is delayed on purpose, as in long polling, does not count as a
                // handshake: a few of them would use up the limit.
                _ = timeout(SETTLE_AFTER, self.body.read_started()) => {
                    lease.settle();
                    pending.await
                }
            }
        };
        lease.settle();
        let error = match response {
            Ok(Ok((response, _))) if response.status() == StatusCode::SWITCHING_PROTOCOLS => {
                return AttemptOutcome::Final(Err(Refusal::new(
                    StatusCode::BAD_GATEWAY,
                    RefusalReason::Status,
                    "the backend switched protocols, which was not requested",
                )));
            }
            Ok(Ok((response, connection))) => {
                return AttemptOutcome::Final(Ok((lease, response, connection)));
            }
            Ok(Err(error)) => error,
            Err(_) => {
                let error = ResponseTimeout(self.answer_idle);
                let why = RefusalReason::AnswerIdle;
                warn_backend_failure(self.request.route, &lease, &error, why, LOG_MESSAGE);
                return AttemptOutcome::Final(Err(Refusal::new(
                    StatusCode::GATEWAY_TIMEOUT,
                    RefusalReason::AnswerIdle,
                    "the backend did not answer in time",
                )));
            }
        };
        if let Some(refusal) = self.body_refusal() {
            return AttemptOutcome::Final(Err(refusal));
        }
        if error.is_exhaustion() {
            warn_exhaustion(&error);
            return AttemptOutcome::Final(Err(Refusal::no_descriptor()));
        }
        let refusal = backend_refusal(&error);
        warn_backend_failure(self.request.route, &lease, &error, refusal.why, LOG_MESSAGE);
        // The lease is released for other requests while this one selects another backend.
        let result = Err(refusal);
        match error.is_connect() {
            true => AttemptOutcome::Failed {
                kind: FailureKind::Connect,
                result,
            },
            false if self.is_repeatable => AttemptOutcome::Failed {
                kind: FailureKind::Response,
                result,
            },
            false => AttemptOutcome::Final(result),
        }
    }
}

impl ForwardAttempt<'_> {
    /// Sends the request to one backend and awaits the response.
    async fn await_response(
        &self,
        lease: &Lease,
        dialer: &BackendDialer,
        rc: &RequestContext<'_>,
    ) -> Result<Result<(Response<Incoming>, ConnectionUse), SendError>, Elapsed> {
        let mut request = Request::new(self.body.lend());
        *request.method_mut() = self.request.parts.method.clone();
        *request.uri_mut() = self.request.outbound.target.clone().into();
        *request.headers_mut() = self.request.outbound.headers_for(lease);
        *request.extensions_mut() = self.request.parts.extensions.clone();
        let pool = self.request.route.pool.name();
        let sender = RequestSender {
            peer: &rc.peer,
            client: rc.client,
            version: rc.version,
        };
        let sent = self
            .client
            .send(sender, pool, (lease, dialer), request, &self.body_status);
        let mut pending = pin!(sent);
        loop {
            let response = timeout(self.answer_idle, pending.as_mut()).await;
            // While the request body is still arriving, the backend's deadline does not run.
            if response.is_ok() || !self.body_status.moved.swap(false, Ordering::Relaxed) {
                return response;
            }
        }
    }

    /// Returns the refusal if the client's body ended the request: the backend is not at fault.
    fn body_refusal(&self) -> Option<Refusal> {
        if self.body_status.timed_out.load(Ordering::Relaxed) {
            return Some(Refusal::new(
                StatusCode::REQUEST_TIMEOUT,
                RefusalReason::BodyIdle,
                "the request body was not received in time",
            ));
        }
        // RFC 9112 §7.1: the client's own chunks are malformed.
        let is_broken = self.body_status.broken.load(Ordering::Relaxed);
        is_broken.then(|| Refusal::bad(RefusalReason::Body, "the request body is malformed"))
    }
}

fn backend_refusal(error: &SendError) -> Refusal {
    Refusal::no_response(match error {
        SendError::Connect(error) => error.into(),
        error if error.is_connect() => NoResponse::Dial,
        _ => NoResponse::Broken,
    })
}

/// Longer than most responses take to begin, far shorter than a long poll (Socket.IO: 25 s).
const SETTLE_AFTER: Duration = Duration::from_secs(1);

const LOG_MESSAGE: &str = "request to a backend failed";
