//! Plain HTTP on a route: to the same backends, over pooled connections, streamed both ways without buffering.

use super::{
    Body,
    asked::{Asked, Trail},
    body::{self, Seen},
    framing::is_plainly_framed,
    names::Names,
    outbound::{self, Outbound},
    reject::{Refusal, blame},
    shake::MAX_HEADERS,
    sticky,
};
use crate::{
    gateway::Route,
    upstream::{Backend, Key, Resolver},
};
use ::http::{Extensions, Method, Request, Response, StatusCode, Uri, uri::Scheme};
use hyper::{body::Incoming, upgrade::OnUpgrade};
use hyper_util::{
    client::legacy::{Client, connect::HttpConnector},
    rt::{TokioExecutor, TokioTimer},
};
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

/// The client for plain HTTP, with its pool of idle connections.
#[derive(Debug)]
pub(super) struct Plain(Client<HttpConnector<Names>, Body>);

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

// === impl Plain ===

impl Plain {
    pub(super) fn new(resolver: Resolver) -> Self {
        let mut connector = HttpConnector::new_with_resolver(Names(resolver));
        connector.set_nodelay(true);
        connector.set_connect_timeout(Some(CONNECT));
        connector.set_keepalive(Some(KEEPALIVE));
        let client = Client::builder(TokioExecutor::new())
            .pool_timer(TokioTimer::new())
            .pool_idle_timeout(POOL_IDLE)
            .pool_max_idle_per_host(POOL_SIZE)
            .http1_preserve_header_case(true)
            .http1_title_case_headers(true)
            .http1_max_headers(MAX_HEADERS)
            .set_host(false)
            .build(connector);
        Plain(client)
    }

    /// Sends the request to a backend of `route`, and brings back what it answers, whole.
    pub(super) async fn forward(
        &self,
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
        *request.uri_mut() = address(lease.backend(), plea.outbound.target).map_err(|error| {
            Refusal::new(
                StatusCode::INTERNAL_SERVER_ERROR,
                "rebuild",
                error.to_string(),
            )
        })?;
        *request.headers_mut() = plea.outbound.headers;
        *request.extensions_mut() = plea.extensions;
        // It belongs to the client's connection, and a plain request never becomes anything else.
        request.extensions_mut().remove::<OnUpgrade>();
        let mut answer = pin!(self.0.request(request));
        let answer = loop {
            let answer = timeout(plea.answer_idle, answer.as_mut()).await;
            // While the request's body still comes, the backend owes nothing.
            if answer.is_ok() || !seen.moved.swap(false, Ordering::Relaxed) {
                break answer;
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
                blame(route, &lease, &error, FAILED);
                let (why, text) = match error.is_connect() {
                    true => ("dial", "the backend cannot be reached"),
                    false => ("broken", "the backend did not answer in HTTP"),
                };
                return Err(Refusal::new(StatusCode::BAD_GATEWAY, why, text));
            }
        };
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
}

/// `http` = `ws`: the same backend speaks both.
fn address(backend: &Backend, target: ::http::uri::PathAndQuery) -> Result<Uri, ::http::Error> {
    let address = backend.address();
    let authority = match address.host.contains(':') {
        true => format!("[{}]:{}", address.host, address.port),
        false => format!("{}:{}", address.host, address.port),
    };
    Uri::builder()
        .scheme(Scheme::HTTP)
        .authority(authority)
        .path_and_query(target)
        .build()
}

const FAILED: &str = "request to a backend failed";
/// From the first SYN to the connection.
const CONNECT: Duration = Duration::from_secs(10);
/// A backend that vanished without a word is found by the kernel.
const KEEPALIVE: Duration = Duration::from_secs(60);
/// Less than the idle limits of Python servers (gunicorn's threads 2 s, uvicorn 5 s): a pooled connection that is just
/// being closed costs a retry, which a request with a body cannot have.
const POOL_IDLE: Duration = Duration::from_millis(1500);
/// Idle connections kept for each backend.
const POOL_SIZE: usize = 32;
