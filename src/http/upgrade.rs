//! Upgrades a request: the handshake with the backend first, its 101 verified, then ours with the client; then a session.
//!
//! Until the backend's 101 has been verified, no byte that the client sent after its request is forwarded.

use super::{
    Body, Context, Peer,
    asked::{RequestContext, RouteInfo, version_str},
    body,
    outbound::{self, Outbound},
    reject::{Refusal, empty, warn_backend_failure},
    session::PendingSession,
    shake::{AbandonGuard, HandshakeError, HandshakeOutcome, backend_handshake},
    sticky,
    token::ExtractedToken,
    tries::{Attempts, FailureKind},
};
use crate::{
    gateway::Route,
    guard::subnet_key,
    observe::SessionRecord,
    proto::{deflate::DeflateParams, handshake::Offer},
    upstream::{BalanceKey, Lease},
};
use ::http::{Extensions, HeaderMap, HeaderValue, Response, StatusCode, Version, header};
use hyper::upgrade::OnUpgrade;
use std::{sync::Arc, time::Duration};
use tokio::time::{Instant, timeout_at};

/// A handshake that passed validation and the guards.
pub(super) struct Wish {
    pub(super) offer: Offer,
    /// Compression between the client and Lockgate.
    pub(super) agreement: Option<DeflateParams>,
    pub(super) key: BalanceKey,
    pub(super) host: Box<str>,
    pub(super) path: Box<str>,
    pub(super) outbound: Outbound,
    pub(super) carried: ExtractedToken,
    pub(super) answer_idle: Duration,
}

/// Opens a session on a backend of `route`, or returns the backend's own response or a refusal.
pub(super) async fn open(
    context: &Arc<Context>,
    route: &Route,
    asked: RequestContext,
    wish: Wish,
    mut extensions: Extensions,
    trail: &mut RouteInfo,
) -> Result<Response<Body>, Refusal> {
    let place = context.session_permits.clone().try_acquire_owned();
    let place = place.map_err(|_| {
        Refusal::unavailable(
            "sessions-full",
            "no place for another session, try again later",
        )
    })?;
    let client = extensions.remove::<OnUpgrade>();
    let tries = Attempts::new(context, route, wish.key, asked.client, asked.started);
    let deadline = asked.started + route.handshake_timeout;
    let met = tokio::select! {
        met = connect_with_retry(tries, deadline, &asked.peer, &wish, &extensions, trail) => met?,
        // A session that opened now would be closed at once: a refusal lets the client choose another server.
        () = context.sessions.closing() => {
            return Err(Refusal::unavailable("stopping", "this server is stopping, try again"));
        }
    };
    let (lease, mut agreed, backend, mut headers) = match met {
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
            outbound::rewrite_response(&mut parts, asked.version);
            sticky::set_cookie(&route.pool, wish.key, &lease, &mut parts.headers);
            let body = body::response_body(body, wish.answer_idle, (asked.busy, lease));
            return Ok(Response::from_parts(parts, body));
        }
    };
    context.metrics.handshake(asked.started.elapsed());
    trail.session = true;
    wish.carried.answer(&mut agreed, &mut headers);
    sticky::set_cookie(&route.pool, wish.key, &lease, &mut headers);
    if let Some(agreement) = wish.agreement {
        let answer = agreement.to_string();
        if let Ok(answer) = HeaderValue::try_from(&answer) {
            headers.insert(header::SEC_WEBSOCKET_EXTENSIONS, answer);
        }
        agreed.extensions = Some(answer.into());
    }
    let opening = PendingSession {
        record: SessionRecord {
            id: 0,
            client: asked.client,
            http: version_str(asked.version),
            host: wish.host,
            path: wish.path,
            route: route.name.clone(),
            backend: lease.backend().name().clone(),
            subprotocol: agreed.subprotocol,
            extensions: agreed.extensions,
        },
        lease,
        place,
        limits: route.limits.subscribe(),
        backend,
        reserved: agreed.reserved,
        agreement: wish.agreement,
    };
    let waiting = opening.start(context.clone(), client, asked.busy);
    context.tasks.spawn(waiting);
    Ok(switching_protocols(asked.version, headers))
}

/// Tries one backend after another, until a response is final or no backend is left.
async fn connect_with_retry(
    mut tries: Attempts<'_>,
    deadline: Instant,
    peer: &Peer,
    wish: &Wish,
    extensions: &Extensions,
    trail: &mut RouteInfo,
) -> Result<(Lease, HandshakeOutcome), Refusal> {
    let (context, route) = (tries.context, tries.route);
    let mut lease = tries.first(trail).await?;
    loop {
        let hands = backend_handshake(
            context,
            &lease,
            peer,
            &wish.outbound,
            extensions,
            &wish.offer,
        );
        let kept = AbandonGuard::waiting(&lease, subnet_key(peer.address), route.handshake_timeout);
        let hands = match timeout_at(deadline, hands).await {
            Ok(hands) => hands,
            Err(_) => Err(HandshakeError::Timeout(route.handshake_timeout)),
        };
        kept.over();
        lease.settle();
        match &hands {
            // Time in the admission queue does not count against the backend.
            Err(HandshakeError::Timeout(_)) if tries.waited => {}
            Err(error) if error.is_no_response() => lease.failed(error),
            _ => lease.answered(),
        }
        let (failure, told) = match hands {
            Ok(HandshakeOutcome::Rejected(response)) if is_retryable_status(response.status()) => (
                FailureKind::Answer,
                Ok((lease, HandshakeOutcome::Rejected(response))),
            ),
            Ok(hands) => return Ok((lease, hands)),
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
        let failed = match &told {
            Ok((lease, _)) => lease.backend(),
            Err((backend, _)) => backend,
        };
        lease = match tries.next(failed.clone(), failure, trail).await {
            Some(next) => next,
            None => return told.map_err(|(_, refusal)| refusal),
        };
    }
}

/// Statuses of a backend, or of a proxy in front of it, that another one may not return (RFC 9110 §15.6.3 to §15.6.5).
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
