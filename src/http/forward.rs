//! Plain HTTP on a route: to the same backends, streamed both ways without buffering.

use super::{
    Body, Context, Peer,
    asked::{RequestContext, RouteInfo},
    body::{self, BodyStatus, ReplayableBody},
    framing::has_single_transfer_coding,
    outbound::{self, Outbound},
    reject::{Refusal, warn_backend_failure},
    send::{SendError, send},
    sticky,
    tries::{Attempts, FailureKind},
};
use crate::upstream::{DialError, Lease};
use ::http::{Extensions, Method, Request, Response, StatusCode};
use hyper::{
    body::{Body as _, Incoming},
    upgrade::OnUpgrade,
};
use std::{
    pin::pin,
    sync::{Arc, atomic::Ordering},
    time::Duration,
};
use tokio::time::{error::Elapsed, timeout};

/// The error of a backend that did not respond.
#[derive(Debug, thiserror::Error)]
#[error("no answer within {0:?} (limits.answer_idle)")]
struct ResponseTimeout(Duration);

/// A plain request that passed validation and the guards.
pub(super) struct Plea {
    pub(super) method: Method,
    pub(super) outbound: Outbound,
    pub(super) extensions: Extensions,
    pub(super) body: Incoming,
    pub(super) body_idle: Duration,
    pub(super) answer_idle: Duration,
}

/// Sends the request to one backend after another until one responds or no attempt is left, and returns that
/// response, complete.
pub(super) async fn forward(
    mut tries: Attempts<'_>,
    asked: RequestContext,
    plea: Plea,
    trail: &mut RouteInfo,
) -> Result<Response<Body>, Refusal> {
    let (context, route, answer_idle) = (tries.context, tries.route, plea.answer_idle);
    let mut lease = tries.first(trail).await?;
    let seen = Arc::new(BodyStatus::default());
    // RFC 9110 §9.2.2: only an idempotent request may be sent twice.
    let is_repeatable = plea.method.is_idempotent() && plea.body.is_end_stream();
    let body = ReplayableBody::new(body::request_body(plea.body, plea.body_idle, seen.clone()));
    let (lease, answer) = loop {
        let mut request = Request::new(body.lend());
        *request.method_mut() = plea.method.clone();
        *request.uri_mut() = plea.outbound.target.clone().into();
        *request.headers_mut() = plea.outbound.headers.clone();
        *request.extensions_mut() = plea.extensions.clone();
        // This belongs to the client's connection, and a plain request never becomes a session.
        request.extensions_mut().remove::<OnUpgrade>();
        let answer = {
            let mut answering = pin!(ask(
                context,
                &lease,
                &asked.peer,
                request,
                answer_idle,
                &seen
            ));
            tokio::select! {
                answer = &mut answering => answer,
                // A lease is for a backend at work, and not for a slow client, nor for one whose response is delayed
                // on purpose, as in long polling: a few of those would exclude all others.
                _ = timeout(SETTLE_AFTER, body.wanted()) => {
                    lease.settle();
                    answering.await
                }
            }
        };
        lease.settle();
        let Ok(Err(error)) = &answer else {
            break (lease, answer);
        };
        let failure = match error.is_connect() {
            true => FailureKind::Dial,
            false if is_repeatable => FailureKind::Answer,
            false => break (lease, answer),
        };
        if !tries.can_retry() {
            break (lease, answer);
        }
        if error.is_connect() {
            lease.failed(error);
        }
        warn_backend_failure(route, &lease, error, FAILED);
        let backend = lease.backend().clone();
        // Releases the lease for other requests while this one selects another backend.
        drop(lease);
        lease = match tries.next(backend, failure, trail).await {
            Some(next) => next,
            None => return Err(failed(error)),
        };
    };
    let Ok(answer) = answer else {
        warn_backend_failure(route, &lease, &ResponseTimeout(answer_idle), FAILED);
        return Err(Refusal::new(
            StatusCode::GATEWAY_TIMEOUT,
            "answer-idle",
            "the backend did not answer in time",
        ));
    };
    let response = match answer {
        Ok(response) if response.status() != StatusCode::SWITCHING_PROTOCOLS => response,
        Ok(_) => {
            return Err(Refusal::new(
                StatusCode::BAD_GATEWAY,
                "status",
                "the backend switched protocols unasked",
            ));
        }
        Err(_) if seen.timed_out.load(Ordering::Relaxed) => {
            return Err(Refusal::new(
                StatusCode::REQUEST_TIMEOUT,
                "body-idle",
                "the request's body did not come in time",
            ));
        }
        // RFC 9112 §7.1: the client's own chunks are malformed; the backend is not at fault.
        Err(_) if seen.broken.load(Ordering::Relaxed) => {
            return Err(Refusal::bad("body", "the request's body is malformed"));
        }
        Err(error) => {
            if error.is_connect() {
                lease.failed(&error);
            }
            warn_backend_failure(route, &lease, &error, FAILED);
            return Err(failed(&error));
        }
    };
    lease.answered();
    let (mut parts, incoming) = response.into_parts();
    if !has_single_transfer_coding(&parts.headers) {
        return Err(Refusal::new(
            StatusCode::BAD_GATEWAY,
            "transfer-coding",
            "the backend's answer has a transfer coding that was not asked for",
        ));
    }
    outbound::rewrite_response(&mut parts, asked.version);
    sticky::set_cookie(&route.pool, tries.key, &lease, &mut parts.headers);
    let learner = route.pool.sid_capture(plea.outbound.target.query(), &lease);
    let body = body::response_body(incoming, answer_idle, (asked.busy, lease));
    Ok(Response::from_parts(
        parts,
        sticky::capture_sid(body, learner),
    ))
}

/// Awaits the response of one backend.
async fn ask(
    context: &Context,
    lease: &Lease,
    peer: &Peer,
    request: Request<Body>,
    idle: Duration,
    seen: &BodyStatus,
) -> Result<Result<Response<Incoming>, SendError>, Elapsed> {
    let mut answer = pin!(send(context, lease, peer, request));
    loop {
        let answer = timeout(idle, answer.as_mut()).await;
        // While the request body is still arriving, the backend's deadline does not run.
        if answer.is_ok() || !seen.moved.swap(false, Ordering::Relaxed) {
            return answer;
        }
    }
}

fn failed(error: &SendError) -> Refusal {
    let (why, text) = match error {
        SendError::Dial(DialError::Tls { .. }) => {
            ("backend-tls", "the backend cannot be reached over TLS")
        }
        error if error.is_connect() => ("dial", "the backend cannot be reached"),
        _ => ("broken", "the backend did not answer in HTTP"),
    };
    Refusal::new(StatusCode::BAD_GATEWAY, why, text)
}

/// Longer than most responses take to begin, far shorter than a long poll (Socket.IO: 25 s).
const SETTLE_AFTER: Duration = Duration::from_secs(1);
const FAILED: &str = "request to a backend failed";
