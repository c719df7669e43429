//! Shaking both hands: the handshake with the backend first, its 101 checked, then ours with the client; then a session.
//!
//! Until the backend's 101 is known to be right, not one byte that the client sent behind its request goes anywhere.

use super::{
    Body, Context, Peer,
    asked::{Asked, Trail, in_words},
    body,
    outbound::{self, Outbound},
    reject::{Refusal, blame, empty},
    session::Opening,
    shake::{Hands, HandshakeError, Kept, shake},
    sticky,
    token::Carried,
    tries::{Failure, Tries},
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

/// A handshake that passed the gate and the guards.
pub(super) struct Wish {
    pub(super) offer: Offer,
    /// Compression between the client and us.
    pub(super) agreement: Option<DeflateParams>,
    pub(super) key: BalanceKey,
    pub(super) host: Box<str>,
    pub(super) path: Box<str>,
    pub(super) outbound: Outbound,
    pub(super) carried: Carried,
    pub(super) answer_idle: Duration,
}

/// Opens a session on a backend of `route`, or brings back why not: the backend's own answer, or a refusal of ours.
pub(super) async fn open(
    context: &Arc<Context>,
    route: &Route,
    asked: Asked,
    wish: Wish,
    mut extensions: Extensions,
    trail: &mut Trail,
) -> Result<Response<Body>, Refusal> {
    let place = context.places.clone().try_acquire_owned();
    let place = place.map_err(|_| {
        Refusal::unavailable(
            "sessions-full",
            "no place for another session, try again later",
        )
    })?;
    let client = extensions.remove::<OnUpgrade>();
    let tries = Tries::new(context, route, wish.key, asked.client, asked.started);
    let deadline = asked.started + route.handshake_timeout;
    let met = tokio::select! {
        met = meet(tries, deadline, &asked.peer, &wish, &extensions, trail) => met?,
        // A session that opened now would be closed at once: better told now, so that the client goes elsewhere.
        () = context.sessions.closing() => {
            return Err(Refusal::unavailable("stopping", "this server is stopping, try again"));
        }
    };
    let (lease, mut agreed, backend, mut headers) = match met {
        (
            lease,
            Hands::Shaken {
                agreed,
                backend,
                headers,
            },
        ) => (lease, agreed, backend, headers),
        (lease, Hands::Refused(response)) => {
            let (mut parts, body) = response.into_parts();
            outbound::pass_back(&mut parts, asked.version);
            sticky::set_cookie(&route.pool, wish.key, &lease, &mut parts.headers);
            let body = body::answered(body, wish.answer_idle, (asked.busy, lease));
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
    let opening = Opening {
        record: SessionRecord {
            id: 0,
            client: asked.client,
            http: in_words(asked.version),
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
    let waiting = opening.meet(context.clone(), client, asked.busy);
    context.tasks.spawn(waiting);
    Ok(opened(asked.version, headers))
}

/// One backend after the other, until one answers for good, or none is left.
async fn meet(
    mut tries: Tries<'_>,
    deadline: Instant,
    peer: &Peer,
    wish: &Wish,
    extensions: &Extensions,
    trail: &mut Trail,
) -> Result<(Lease, Hands), Refusal> {
    let (context, route) = (tries.context, tries.route);
    let mut lease = tries.first(trail).await?;
    loop {
        let hands = shake(
            context,
            &lease,
            peer,
            &wish.outbound,
            extensions,
            &wish.offer,
        );
        let kept = Kept::waiting(&lease, subnet_key(peer.address), route.handshake_timeout);
        let hands = match timeout_at(deadline, hands).await {
            Ok(hands) => hands,
            Err(_) => Err(HandshakeError::Timeout(route.handshake_timeout)),
        };
        kept.over();
        lease.settle();
        match &hands {
            // What was waited in our own queue is not its fault.
            Err(HandshakeError::Timeout(_)) if tries.waited => {}
            Err(error) if error.is_silence() => lease.failed(error),
            _ => lease.answered(),
        }
        let (failure, told) = match hands {
            Ok(Hands::Refused(response)) if is_passing(response.status()) => {
                (Failure::Answer, Ok((lease, Hands::Refused(response))))
            }
            Ok(hands) => return Ok((lease, hands)),
            Err(error) => {
                blame(route, &lease, &error, "handshake with a backend failed");
                let Some(failure) = error.failure() else {
                    return Err(error.refusal());
                };
                let backend = lease.backend().clone();
                // Its place is for others while this one looks for another.
                drop(lease);
                (failure, Err((backend, error.refusal())))
            }
        };
        let failed = match &told {
            Ok((lease, _)) => lease.backend(),
            Err((backend, _)) => backend,
        };
        lease = match tries.another(failed.clone(), failure, trail).await {
            Some(next) => next,
            None => return told.map_err(|(_, refusal)| refusal),
        };
    }
}

/// Answers of a backend, or of what stands before it, that another one need not give (RFC 9110 §15.6.3 to §15.6.5).
fn is_passing(status: StatusCode) -> bool {
    matches!(
        status,
        StatusCode::BAD_GATEWAY | StatusCode::SERVICE_UNAVAILABLE | StatusCode::GATEWAY_TIMEOUT
    )
}

/// Our answer to the client: a 101 (RFC 6455 §4.2.2), or a 200 to an extended CONNECT (RFC 8441 §5). What else the
/// backend's 101 said, Sec-WebSocket-* too, is the backend's own.
fn opened(version: Version, mut headers: HeaderMap) -> Response<Body> {
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
