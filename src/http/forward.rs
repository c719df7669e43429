//! Plain HTTP on a route: to the same backends, streamed both ways without buffering.

use crate::{
    http::{
        Body, Context, Peer,
        body::{self, BodyStatus, ReplayableBody},
        client::{SendError, send},
        refusal::{Refusal, warn_backend_failure},
        request::{RequestContext, RouteInfo},
        retry::{Attempts, FailureKind},
        rewrite::{self, Outbound},
        validate::has_single_transfer_coding,
    },
    net::dial::DialError,
    upstream::lease::Lease,
};
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
pub(crate) struct PlainRequest {
    pub(crate) method: Method,
    pub(crate) outbound: Outbound,
    pub(crate) extensions: Extensions,
    pub(crate) body: Incoming,
    pub(crate) body_idle: Duration,
    pub(crate) answer_idle: Duration,
}

/// Sends the request to one backend after another until one responds or no attempt is left, and returns the response
/// for the client.
pub(crate) async fn forward(
    mut attempts: Attempts<'_>,
    request_context: RequestContext,
    plain_request: PlainRequest,
    route_info: &mut RouteInfo,
) -> Result<Response<Body>, Refusal> {
    let (context, route, answer_idle) =
        (attempts.context, attempts.route, plain_request.answer_idle);
    let mut lease = attempts.first(route_info).await?;
    let body_status = Arc::new(BodyStatus::default());
    // RFC 9110 §9.2.2: only an idempotent request may be sent twice.
    let is_repeatable = plain_request.method.is_idempotent() && plain_request.body.is_end_stream();
    let body = ReplayableBody::new(body::request_body(
        plain_request.body,
        plain_request.body_idle,
        body_status.clone(),
    ));
    let (lease, answer) = loop {
        let mut request = Request::new(body.lend());
        *request.method_mut() = plain_request.method.clone();
        *request.uri_mut() = plain_request.outbound.target.clone().into();
        *request.headers_mut() = plain_request.outbound.headers.clone();
        *request.extensions_mut() = plain_request.extensions.clone();
        // The extension belongs to the client's connection, and a plain request is never upgraded.
        request.extensions_mut().remove::<OnUpgrade>();
        let answer = {
            let mut response = pin!(await_response(
                context,
                &lease,
                &request_context.peer,
                request,
                answer_idle,
                &body_status
            ));
            tokio::select! {
                answer = &mut response => answer,
                // A slow client or a response that is delayed on purpose, as in long polling, does not count as a
                // handshake: a few of them would use up the limit.
                _ = timeout(SETTLE_AFTER, body.read_started()) => {
                    lease.settle();
                    response.await
                }
            }
        };
        lease.settle();
        let Ok(Err(error)) = &answer else {
            break (lease, answer);
        };
        let failure = match error.is_connect() {
            true => FailureKind::Connect,
            false if is_repeatable => FailureKind::Response,
            false => break (lease, answer),
        };
        if !attempts.can_retry() {
            break (lease, answer);
        }
        if error.is_connect() {
            lease.failed(error);
        }
        warn_backend_failure(route, &lease, error, LOG_MESSAGE);
        let backend = lease.backend().clone();
        // Releases the lease for other requests while this one selects another backend.
        drop(lease);
        lease = match attempts.next(backend, failure, route_info).await {
            Some(next) => next,
            None => return Err(failed(error)),
        };
    };
    let Ok(answer) = answer else {
        warn_backend_failure(route, &lease, &ResponseTimeout(answer_idle), LOG_MESSAGE);
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
                "the backend switched protocols, which was not requested",
            ));
        }
        Err(_) if body_status.timed_out.load(Ordering::Relaxed) => {
            return Err(Refusal::new(
                StatusCode::REQUEST_TIMEOUT,
                "body-idle",
                "the request body was not received in time",
            ));
        }
        // RFC 9112 §7.1: the client's own chunks are malformed; the backend is not at fault.
        Err(_) if body_status.broken.load(Ordering::Relaxed) => {
            return Err(Refusal::bad("body", "the request body is malformed"));
        }
        Err(error) => {
            if error.is_connect() {
                lease.failed(&error);
            }
            warn_backend_failure(route, &lease, &error, LOG_MESSAGE);
            return Err(failed(&error));
        }
    };
    lease.answered();
    let (mut parts, incoming) = response.into_parts();
    if !has_single_transfer_coding(&parts.headers) {
        return Err(Refusal::new(
            StatusCode::BAD_GATEWAY,
            "transfer-coding",
            "the backend's answer has a transfer coding that was not requested",
        ));
    }
    rewrite::rewrite_response(&mut parts, request_context.version);
    rewrite::set_cookie(&route.pool, attempts.key, &lease, &mut parts.headers);
    let sid_capture = route
        .pool
        .sid_capture(plain_request.outbound.target.query(), &lease);
    let body = body::response_body(incoming, answer_idle, (request_context.in_flight, lease));
    Ok(Response::from_parts(
        parts,
        rewrite::capture_sid(body, sid_capture),
    ))
}

/// Sends the request to one backend and awaits the response.
async fn await_response(
    context: &Context,
    lease: &Lease,
    peer: &Peer,
    request: Request<Body>,
    idle: Duration,
    body_status: &BodyStatus,
) -> Result<Result<Response<Incoming>, SendError>, Elapsed> {
    let mut answer = pin!(send(context, lease, peer, request));
    loop {
        let answer = timeout(idle, answer.as_mut()).await;
        // While the request body is still arriving, the backend's deadline does not run.
        if answer.is_ok() || !body_status.moved.swap(false, Ordering::Relaxed) {
            return answer;
        }
    }
}

fn failed(error: &SendError) -> Refusal {
    let (why, text) = match error {
        SendError::Connect(DialError::Tls { .. }) => {
            ("backend-tls", "the backend cannot be reached over TLS")
        }
        error if error.is_connect() => ("dial", "the backend cannot be reached"),
        _ => ("broken", "the backend did not answer in HTTP"),
    };
    Refusal::new(StatusCode::BAD_GATEWAY, why, text)
}

/// Longer than most responses take to begin, far shorter than a long poll (Socket.IO: 25 s).
const SETTLE_AFTER: Duration = Duration::from_secs(1);

const LOG_MESSAGE: &str = "request to a backend failed";
