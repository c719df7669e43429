//! Upgrades a request: performs the handshake with the backend, verifies its 101, completes the handshake with the
//! client, and starts the session.
//!
//! Until the backend's 101 has been verified, no byte that the client sent after its request is forwarded.

use crate::{
    gateway::route::Route,
    http::{
        Body, Context, Peer,
        backend_handshake::{AbandonGuard, HandshakeError, HandshakeOutcome, backend_handshake},
        body,
        refusal::{Refusal, empty, warn_backend_failure},
        request::{RequestContext, RouteInfo, version_str},
        retry::{Attempts, FailureKind},
        rewrite::{self, Outbound},
        session::PendingSession,
        token::ExtractedToken,
    },
    net::subnet::SubnetKey,
    observe::access::record::SessionRecord,
    proto::{deflate::DeflateParams, handshake::Offer},
    upstream::{balance_key::BalanceKey, lease::Lease},
};
use ::http::{Extensions, HeaderMap, HeaderValue, Response, StatusCode, Version, header};
use hyper::upgrade::OnUpgrade;
use std::{sync::Arc, time::Duration};
use tokio::time::{Instant, timeout_at};

/// A handshake that passed validation and the guards.
pub(crate) struct UpgradeRequest {
    pub(crate) offer: Offer,
    /// Compression between the client and Lockgate.
    pub(crate) agreement: Option<DeflateParams>,
    pub(crate) key: BalanceKey,
    pub(crate) host: Box<str>,
    pub(crate) path: Box<str>,
    pub(crate) outbound: Outbound,
    pub(crate) token: ExtractedToken,
    pub(crate) answer_idle: Duration,
}

/// Opens a session on a backend of `route`, or returns the backend's own response or a refusal.
pub(crate) async fn open(
    context: &Arc<Context>,
    route: &Route,
    request_context: RequestContext,
    request: UpgradeRequest,
    mut extensions: Extensions,
    route_info: &mut RouteInfo,
) -> Result<Response<Body>, Refusal> {
    let permit = context.session_permits.clone().try_acquire_owned();
    let permit = permit.map_err(|_| {
        Refusal::unavailable(
            "sessions-full",
            "the limit on sessions is reached, try again later",
        )
    })?;
    let client = extensions.remove::<OnUpgrade>();
    let attempts = Attempts::new(
        context,
        route,
        request.key,
        request_context.client,
        request_context.started,
    );
    let deadline = request_context.started + route.handshake_timeout;
    let connected = tokio::select! {
        connected = connect_with_retry(
            attempts,
            deadline,
            &request_context.peer,
            &request,
            &extensions,
            route_info,
        ) => connected?,
        // A session that opens now would be closed at once; after a refusal the client can connect to another server.
        () = context.sessions.closing() => {
            return Err(Refusal::unavailable("stopping", "this server is stopping, try again"));
        }
    };
    let (lease, mut agreed, backend, mut headers) = match connected {
        (
            lease,
            HandshakeOutcome::Upgraded {
                agreed,
                backend,
                headers,
            },
        ) => (lease, agreed, backend, headers),
        (lease, HandshakeOutcome::Rejected(response)) => {
            let (mut parts, body) = response.into_parts();
            rewrite::rewrite_response(&mut parts, request_context.version);
            rewrite::set_cookie(&route.pool, request.key, &lease, &mut parts.headers);
            let body = body::response_body(
                body,
                request.answer_idle,
                (request_context.in_flight, lease),
            );
            return Ok(Response::from_parts(parts, body));
        }
    };
    context.metrics.handshake(request_context.started.elapsed());
    route_info.session = true;
    request.token.select_echo(&mut agreed, &mut headers);
    rewrite::set_cookie(&route.pool, request.key, &lease, &mut headers);
    if let Some(agreement) = request.agreement {
        let answer = agreement.to_string();
        if let Ok(answer) = HeaderValue::try_from(&answer) {
            headers.insert(header::SEC_WEBSOCKET_EXTENSIONS, answer);
        }
        agreed.extensions = Some(answer.into());
    }
    let pending = PendingSession {
        record: SessionRecord {
            id: 0,
            client: request_context.client,
            http: version_str(request_context.version),
            host: request.host,
            path: request.path,
            route: route.name.clone(),
            backend: lease.backend().name().clone(),
            subprotocol: agreed.subprotocol,
            extensions: agreed.extensions,
        },
        lease,
        permit,
        limits: route.limits.subscribe(),
        backend,
        reserved: agreed.reserved,
        agreement: request.agreement,
    };
    let starting = pending.start(context.clone(), client, request_context.in_flight);
    context.tasks.spawn(starting);
    Ok(switching_protocols(request_context.version, headers))
}

/// Performs the handshake with one backend after another, until a response is final or no attempt is left.
async fn connect_with_retry(
    mut attempts: Attempts<'_>,
    deadline: Instant,
    peer: &Peer,
    request: &UpgradeRequest,
    extensions: &Extensions,
    route_info: &mut RouteInfo,
) -> Result<(Lease, HandshakeOutcome), Refusal> {
    let (context, route) = (attempts.context, attempts.route);
    let mut lease = attempts.first(route_info).await?;
    loop {
        let outcome = backend_handshake(
            context,
            &lease,
            peer,
            &request.outbound,
            extensions,
            &request.offer,
        );
        let abandon_guard =
            AbandonGuard::start(&lease, SubnetKey::of(peer.address), route.handshake_timeout);
        let outcome = match timeout_at(deadline, outcome).await {
            Ok(outcome) => outcome,
            Err(_) => Err(HandshakeError::Timeout(route.handshake_timeout)),
        };
        abandon_guard.disarm();
        lease.settle();
        match &outcome {
            // The wait in the admission queue used up a part of the time, so the backend is not at fault.
            Err(HandshakeError::Timeout(_)) if attempts.waited => {}
            Err(error) if error.is_no_response() => lease.failed(error),
            _ => lease.answered(),
        }
        let (failure, result) = match outcome {
            Ok(HandshakeOutcome::Rejected(response)) if is_retryable_status(response.status()) => (
                FailureKind::Response,
                Ok((lease, HandshakeOutcome::Rejected(response))),
            ),
            Ok(outcome) => return Ok((lease, outcome)),
            Err(error) => {
                warn_backend_failure(route, &lease, &error, "handshake with a backend failed");
                let Some(failure) = error.failure() else {
                    return Err(error.refusal());
                };
                let backend = lease.backend().clone();
                // Releases the lease for other requests while this one selects another backend.
                drop(lease);
                (failure, Err((backend, error.refusal())))
            }
        };
        let failed = match &result {
            Ok((lease, _)) => lease.backend(),
            Err((backend, _)) => backend,
        };
        lease = match attempts.next(failed.clone(), failure, route_info).await {
            Some(next) => next,
            None => return result.map_err(|(_, refusal)| refusal),
        };
    }
}

/// Returns whether another backend may respond differently: with this status a backend, or a proxy in front of it,
/// reports that it is unavailable (RFC 9110 §15.6.3 to §15.6.5).
fn is_retryable_status(status: StatusCode) -> bool {
    matches!(
        status,
        StatusCode::BAD_GATEWAY | StatusCode::SERVICE_UNAVAILABLE | StatusCode::GATEWAY_TIMEOUT
    )
}

/// Returns the response to the client: a 101 (RFC 6455 §4.2.2), or a 200 to an extended CONNECT (RFC 8441 §5). Other
/// headers of the backend's 101, Sec-WebSocket-* too, are forwarded.
fn switching_protocols(version: Version, mut headers: HeaderMap) -> Response<Body> {
    let mut response = Response::new(empty());
    if version == Version::HTTP_2 {
        headers.remove(header::SEC_WEBSOCKET_ACCEPT);
    } else {
        *response.status_mut() = StatusCode::SWITCHING_PROTOCOLS;
        headers.insert(header::UPGRADE, HeaderValue::from_static("websocket"));
        headers.insert(header::CONNECTION, HeaderValue::from_static("Upgrade"));
    }
    *response.headers_mut() = headers;
    response
}
