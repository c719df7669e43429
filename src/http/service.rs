//! The request pipeline: snapshot, validation, guards, and then a session, a plain response, or a refusal.

use super::{
    Body, Context, Peer,
    asked::{RequestContext, RouteInfo},
    compression,
    forward::{Plea, forward},
    gate::{self, ValidatedRequest},
    identity,
    outbound::{self, Outbound},
    patience::InFlight,
    reject::Refusal,
    telling::AccessRecord,
    token::{self, ExtractedToken},
    tries::Attempts,
    upgrade,
};
use crate::{
    config::Only,
    gateway::{Gateway, Route},
    proto::{deflate::DeflateParams, forwarded, handshake::Offer},
    upstream::BalanceKey,
};
use ::http::{Request, Response, StatusCode, request::Parts};
use hyper::body::Incoming;
use std::{
    net::IpAddr,
    sync::{Arc, atomic::Ordering},
};
use tokio::time::Instant;

/// Answers a request; never fails, because a refusal is a response too.
pub(super) async fn answer(
    context: Arc<Context>,
    peer: Peer,
    busy: InFlight,
    request: Request<Incoming>,
) -> Response<Body> {
    let gateway = context.live.snapshot();
    let client = forwarded::client(request.headers(), peer.address, |address| {
        gateway.trusts(address)
    });
    let version = request.version();
    let asked = RequestContext {
        peer,
        client,
        started: Instant::now(),
        version,
        busy,
    };
    let mut telling = AccessRecord::of(context.clone(), &request, client);
    let answer = dispatch(&context, &gateway, asked, request, &mut telling.trail).await;
    telling.end(&answer);
    answer.unwrap_or_else(|refusal| refusal.response(version))
}

/// Decides how the request is handled, and handles it.
async fn dispatch(
    context: &Arc<Context>,
    gateway: &Gateway,
    asked: RequestContext,
    request: Request<Incoming>,
    trail: &mut RouteInfo,
) -> Result<Response<Body>, Refusal> {
    let (parts, body) = request.into_parts();
    let Decided {
        route,
        offer,
        agreement,
        host,
        path,
        outbound,
        carried,
        key,
    } = resolve(gateway, &parts, &asked.peer, asked.client, trail)?;
    let answer_idle = gateway.limits.answer_idle.0;
    match offer {
        Some(offer) => {
            let wish = upgrade::Wish {
                offer,
                agreement,
                key,
                host,
                path,
                outbound,
                carried,
                answer_idle,
            };
            upgrade::open(context, route, asked, wish, parts.extensions, trail).await
        }
        None => {
            let plea = Plea {
                method: parts.method,
                outbound,
                extensions: parts.extensions,
                body,
                body_idle: gateway.limits.body_idle.0,
                answer_idle,
            };
            let tries = Attempts::new(context, route, key, asked.client, asked.started);
            // Boxed: a WebSocket would reserve the space for it.
            Box::pin(forward(tries, asked, plea, trail)).await
        }
    }
}

/// An accepted request: its route, and its kind.
pub(super) struct Decided<'a> {
    pub(super) route: &'a Route,
    /// Set if it is a WebSocket handshake.
    pub(super) offer: Option<Offer>,
    /// The compression negotiated with the client, if not by the backend.
    pub(super) agreement: Option<DeflateParams>,
    pub(super) host: Box<str>,
    pub(super) path: Box<str>,
    pub(super) outbound: Outbound,
    /// How its token was handled.
    pub(super) carried: ExtractedToken,
    /// The key by which its backend is selected.
    pub(super) key: BalanceKey,
}

/// Applies validation, routing and guards to its arguments only; `trail` records the route even if the request is refused.
pub(super) fn resolve<'a>(
    gateway: &'a Gateway,
    parts: &Parts,
    peer: &Peer,
    client: IpAddr,
    trail: &mut RouteInfo,
) -> Result<Decided<'a>, Refusal> {
    let mut vetted = gate::validate(parts)?;
    identity::check_misdirected(gateway, peer, &vetted)?;
    let route = find(gateway, parts, &vetted)?;
    trail.route = Some(route.name.clone());
    identity::check(route, peer)?;
    if route.draining.load(Ordering::Relaxed) {
        return Err(Refusal::unavailable(
            "draining",
            "this is being taken out of service, try again later",
        ));
    }
    route.addresses.check(client).map_err(forbidden)?;
    if vetted.offer.is_some() {
        route
            .origins
            .check(&parts.headers, &vetted.authority.host)
            .map_err(forbidden)?;
    }
    let mut outbound =
        outbound::rebuild(parts, &vetted, gateway, route, peer, client).map_err(|error| {
            Refusal::new(
                StatusCode::INTERNAL_SERVER_ERROR,
                "rebuild",
                format!("the request cannot be passed on: {error}"),
            )
        })?;
    let agreement = vetted.offer.as_mut().and_then(|offer| {
        compression::negotiate_compression(
            route.compression,
            &parts.headers,
            offer,
            &mut outbound.headers,
        )
    });
    let carried = match &route.token {
        Some(rule) => token::relocate_token(rule, &mut outbound, vetted.offer.as_mut())?,
        None => ExtractedToken::default(),
    };
    if carried.is_ambient() && vetted.offer.is_none() {
        // A backend takes a bearer token as the page's own action; a cookie is sent with requests from any page.
        route
            .origins
            .check(&parts.headers, &vetted.authority.host)
            .map_err(forbidden)?;
    }
    let key = route.pool.key(
        &parts.headers,
        vetted.path.as_str(),
        parts.uri.query(),
        client,
    );
    Ok(Decided {
        route,
        key,
        host: vetted.host.into(),
        path: vetted.path.as_str().into(),
        offer: vetted.offer,
        agreement,
        outbound,
        carried,
    })
}

fn find<'a>(
    gateway: &'a Gateway,
    request: &Parts,
    vetted: &ValidatedRequest<'_>,
) -> Result<&'a Route, Refusal> {
    let subprotocols = vetted.subprotocols();
    match gateway
        .router
        .find(&vetted.wanted(&request.headers, &subprotocols))
    {
        Some(found) if found.fits => Ok(found.route),
        Some(found) if found.rule.only == Only::Websocket => Err(Refusal::upgrade_required(
            "only-websocket",
            "this address takes WebSockets only",
        )),
        Some(_) => Err(Refusal::new(
            StatusCode::NOT_FOUND,
            "only-http",
            "this address takes no WebSockets",
        )),
        None => Err(Refusal::new(
            StatusCode::NOT_FOUND,
            "no-route",
            format!("no route leads there (Host: {})", vetted.host),
        )),
    }
}

fn forbidden(refused: crate::guard::Denial) -> Refusal {
    Refusal::new(StatusCode::FORBIDDEN, refused.why, refused.text)
}
