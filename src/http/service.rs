//! The request pipeline: snapshot, validation, guards, and then a session, a plain response, or a refusal.

use crate::{
    config::Only,
    gateway::{Gateway, route::Route},
    guard,
    http::{
        Body, Context, Peer, client_cert,
        forward::{PlainRequest, forward},
        refusal::Refusal,
        request::{AccessRecord, RequestContext, RouteInfo},
        retry::Attempts,
        rewrite::{self, Outbound},
        timeouts::InFlight,
        token::{self, ExtractedToken},
        validate::{self, ValidatedRequest},
        websocket,
    },
    proto::{deflate::DeflateParams, forwarded, handshake::Offer},
    upstream::balance_key::BalanceKey,
};
use ::http::{Request, Response, StatusCode, request::Parts};
use hyper::body::Incoming;
use std::{
    net::IpAddr,
    sync::{Arc, atomic::Ordering},
};
use tokio::time::Instant;

/// Answers a request; never fails, because a refusal is a response too.
pub(crate) async fn answer(
    context: Arc<Context>,
    peer: Peer,
    in_flight: InFlight,
    request: Request<Incoming>,
) -> Response<Body> {
    let gateway = context.live.snapshot();
    let client = forwarded::client(request.headers(), peer.address, |address| {
        gateway.trusts(address)
    });
    let version = request.version();
    let request_context = RequestContext {
        peer,
        client,
        started: Instant::now(),
        version,
        in_flight,
    };
    let mut record = AccessRecord::of(context.clone(), &request, client);
    let answer = dispatch(
        &context,
        &gateway,
        request_context,
        request,
        &mut record.route_info,
    )
    .await;
    record.end(&answer);
    answer.unwrap_or_else(|refusal| refusal.response(version))
}

/// Decides how the request is handled, and handles it.
async fn dispatch(
    context: &Arc<Context>,
    gateway: &Gateway,
    request_context: RequestContext,
    request: Request<Incoming>,
    route_info: &mut RouteInfo,
) -> Result<Response<Body>, Refusal> {
    let (parts, body) = request.into_parts();
    let ResolvedRequest {
        route,
        offer,
        agreement,
        host,
        path,
        outbound,
        token,
        key,
    } = resolve(
        gateway,
        &parts,
        &request_context.peer,
        request_context.client,
        route_info,
    )?;
    let answer_idle = gateway.limits.answer_idle.0;
    match offer {
        Some(offer) => {
            let upgrade_request = websocket::UpgradeRequest {
                offer,
                agreement,
                key,
                host,
                path,
                outbound,
                token,
                answer_idle,
            };
            websocket::open(
                context,
                route,
                request_context,
                upgrade_request,
                parts.extensions,
                route_info,
            )
            .await
        }
        None => {
            let plain_request = PlainRequest {
                method: parts.method,
                outbound,
                extensions: parts.extensions,
                body,
                body_idle: gateway.limits.body_idle.0,
                answer_idle,
            };
            let attempts = Attempts::new(
                context,
                route,
                key,
                request_context.client,
                request_context.started,
            );
            // Boxed: otherwise the future of a WebSocket request would reserve space for it.
            Box::pin(forward(
                attempts,
                request_context,
                plain_request,
                route_info,
            ))
            .await
        }
    }
}

/// A request that the guards have admitted: its route, and what its backend receives.
pub(crate) struct ResolvedRequest<'a> {
    pub(crate) route: &'a Route,
    /// Set if it is a WebSocket handshake.
    pub(crate) offer: Option<Offer>,
    /// The compression negotiated with the client, if not by the backend.
    pub(crate) agreement: Option<DeflateParams>,
    pub(crate) host: Box<str>,
    pub(crate) path: Box<str>,
    pub(crate) outbound: Outbound,
    /// Where its token was found.
    pub(crate) token: ExtractedToken,
    /// The key by which its backend is selected.
    pub(crate) key: BalanceKey,
}

/// Validates and routes a request, and applies the guards; it sends nothing. `route_info` names the route even if a
/// guard refuses the request.
pub(crate) fn resolve<'a>(
    gateway: &'a Gateway,
    parts: &Parts,
    peer: &Peer,
    client: IpAddr,
    route_info: &mut RouteInfo,
) -> Result<ResolvedRequest<'a>, Refusal> {
    let mut validated = validate::validate(parts)?;
    client_cert::check_misdirected(gateway, peer, &validated)?;
    let route = find(gateway, parts, &validated)?;
    route_info.route = Some(route.name.clone());
    client_cert::check(route, peer)?;
    if route.draining.load(Ordering::Relaxed) {
        return Err(Refusal::unavailable(
            "draining",
            "this route is draining, try again later",
        ));
    }
    route.addresses.check(client).map_err(forbidden)?;
    if validated.offer.is_some() {
        route
            .origins
            .check(&parts.headers, &validated.authority.host)
            .map_err(forbidden)?;
    }
    let mut outbound =
        rewrite::rebuild(parts, &validated, gateway, route, peer, client).map_err(|error| {
            Refusal::new(
                StatusCode::INTERNAL_SERVER_ERROR,
                "rebuild",
                format!("the request cannot be forwarded: {error}"),
            )
        })?;
    let agreement = validated.offer.as_mut().and_then(|offer| {
        rewrite::negotiate_compression(
            route.compression,
            &parts.headers,
            offer,
            &mut outbound.headers,
        )
    });
    let token = match &route.token {
        Some(rule) => token::relocate_token(rule, &mut outbound, validated.offer.as_mut())?,
        None => ExtractedToken::default(),
    };
    if token.is_ambient() && validated.offer.is_none() {
        // Backends trust that a page has set the token header itself, but browsers send cookies with requests of any
        // page.
        route
            .origins
            .check(&parts.headers, &validated.authority.host)
            .map_err(forbidden)?;
    }
    let key = route.pool.key(
        &parts.headers,
        validated.path.as_str(),
        parts.uri.query(),
        client,
    );
    Ok(ResolvedRequest {
        route,
        key,
        host: validated.host.into(),
        path: validated.path.as_str().into(),
        offer: validated.offer,
        agreement,
        outbound,
        token,
    })
}

fn find<'a>(
    gateway: &'a Gateway,
    request: &Parts,
    validated: &ValidatedRequest<'_>,
) -> Result<&'a Route, Refusal> {
    let subprotocols = validated.subprotocols();
    match gateway
        .router
        .find(&validated.route_query(&request.headers, &subprotocols))
    {
        Some(found) if found.fits => Ok(found.route),
        Some(found) if found.rule.only == Only::Websocket => Err(Refusal::upgrade_required(
            "only-websocket",
            "this route accepts WebSockets only",
        )),
        Some(_) => Err(Refusal::new(
            StatusCode::NOT_FOUND,
            "only-http",
            "this route accepts no WebSockets",
        )),
        None => Err(Refusal::new(
            StatusCode::NOT_FOUND,
            "no-route",
            format!("no route matches (Host: {})", validated.host),
        )),
    }
}

fn forbidden(refused: guard::Denial) -> Refusal {
    Refusal::new(StatusCode::FORBIDDEN, refused.why, refused.text)
}
