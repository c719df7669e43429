//! Plain HTTP on a route: to the same backends, streamed both ways without buffering.

use super::{
    Body, Context,
    asked::{Asked, Trail},
    body::{self, Seen},
    framing::is_plainly_framed,
    outbound::{self, Outbound},
    reject::{Refusal, blame},
    send::{Failed, send},
    sticky,
};
use crate::{
    gateway::Route,
    upstream::{DialError, Key},
};
use ::http::{Extensions, Method, Request, Response, StatusCode};
use hyper::{body::Incoming, upgrade::OnUpgrade};
use std::{
    pin::pin,
    sync::{Arc, atomic::Ordering},
    time::Duration,
};
use tokio::time::timeout;

/// A backend said nothing.
#[derive(Debug, thiserror::Error)]
#[error("no answer within {0:?} (limits.answer_idle)")]
struct Silent(Duration);

/// A plain request that passed the gate and the guards.
pub(super) struct Plea {
    pub(super) method: Method,
    pub(super) key: Key,
    pub(super) outbound: Outbound,
    pub(super) extensions: Extensions,
    pub(super) body: Incoming,
    pub(super) body_idle: Duration,
    pub(super) answer_idle: Duration,
}

/// Sends the request to a backend of `route`, and brings back what it answers, whole.
pub(super) async fn forward(
    context: &Context,
    route: &Route,
    asked: Asked,
    plea: Plea,
    trail: &mut Trail,
) -> Result<Response<Body>, Refusal> {
    let lease = route.pool.acquire(plea.key, &[])?;
    trail.backend = Some(lease.backend().name().clone());
    let learner = route.pool.learner(plea.outbound.target.query(), &lease);
    let seen = Arc::new(Seen::default());
    let mut request = Request::new(body::asked(plea.body, plea.body_idle, seen.clone()));
    *request.method_mut() = plea.method;
    *request.uri_mut() = plea.outbound.target.into();
    *request.headers_mut() = plea.outbound.headers;
    *request.extensions_mut() = plea.extensions;
    // It belongs to the client's connection, and a plain request never becomes anything else.
    request.extensions_mut().remove::<OnUpgrade>();
    let answer = {
        let mut answer = pin!(send(context, &lease, &asked.peer, request));
        loop {
            let answer = timeout(plea.answer_idle, answer.as_mut()).await;
            // While the request's body still comes, the backend owes nothing.
            if answer.is_ok() || !seen.moved.swap(false, Ordering::Relaxed) {
                break answer;
            }
        }
    };
    let Ok(answer) = answer else {
        blame(route, &lease, &Silent(plea.answer_idle), FAILED);
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
        Err(_) if seen.late.load(Ordering::Relaxed) => {
            return Err(Refusal::new(
                StatusCode::REQUEST_TIMEOUT,
                "body-idle",
                "the request's body did not come in time",
            ));
        }
        // RFC 9112 §7.1: the client's own chunks, and not the backend's doing.
        Err(_) if seen.broken.load(Ordering::Relaxed) => {
            return Err(Refusal::bad("body", "the request's body is malformed"));
        }
        Err(error) => {
            if error.is_connect() {
                lease.failed(&error);
            }
            blame(route, &lease, &error, FAILED);
            let (why, text) = match &error {
                Failed::Dial(DialError::Tls { .. }) => {
                    ("backend-tls", "the backend cannot be reached over TLS")
                }
                error if error.is_connect() => ("dial", "the backend cannot be reached"),
                _ => ("broken", "the backend did not answer in HTTP"),
            };
            return Err(Refusal::new(StatusCode::BAD_GATEWAY, why, text));
        }
    };
    lease.answered();
    let (mut parts, incoming) = response.into_parts();
    if !is_plainly_framed(&parts.headers) {
        return Err(Refusal::new(
            StatusCode::BAD_GATEWAY,
            "transfer-coding",
            "the backend's answer has a transfer coding that was not asked for",
        ));
    }
    outbound::pass_back(&mut parts, asked.version);
    sticky::set_cookie(&route.pool, plea.key, &lease, &mut parts.headers);
    let body = body::answered(incoming, plea.answer_idle, (asked.busy, lease));
    Ok(Response::from_parts(parts, sticky::watched(body, learner)))
}

const FAILED: &str = "request to a backend failed";
