//! The journey of a request: validate → route → authorize → rewrite → acquire → open a session or forward.
//!
//! Every step receives the same [`RequestContext`], and refuses the request or prepares the next step.
//! `lockgate explain` calls [`admit`], which has the steps up to `rewrite`.

use crate::{
    config::Only,
    guard::Denial,
    http::{
        body::Body,
        client_cert,
        context::Context,
        forward::forward,
        peer::Peer,
        refusal::{Refusal, RefusalReason},
        request::{AccessRecord, RequestContext},
        retry::Attempts,
        rewrite::{self, Outbound},
        timeouts::InFlight,
        validate::{self, ValidatedRequest},
        websocket,
    },
    proto::forwarded,
};
use ::http::{Request, Response, StatusCode, request::Parts};
use hyper::{body::Incoming, upgrade::OnUpgrade};
use std::sync::{Arc, atomic::Ordering};

/// Answers a request; never fails, because a refusal is a response too.
pub(crate) async fn answer(
    context: Arc<Context>,
    peer: Peer,
    in_flight: InFlight,
    request: Request<Incoming>,
) -> Response<Body> {
    let gateway = context.live.snapshot();
    let (mut parts, body) = request.into_parts();
    let client = forwarded::client(&parts.headers, peer.address, |address| {
        gateway.trusts(address)
    });
    let record = AccessRecord::new(Some(context.clone()), &parts, client);
    let mut rc = RequestContext::new(&gateway, peer, client, parts.version, record);
    rc.in_flight = Some(in_flight);
    rc.upgrade = parts.extensions.remove::<OnUpgrade>();
    let answer = respond(&context, &mut rc, &parts, body).await;
    rc.record.end(&answer);
    answer.unwrap_or_else(|refusal| refusal.response(rc.version))
}

async fn respond(
    context: &Arc<Context>,
    rc: &mut RequestContext<'_>,
    parts: &Parts,
    body: Incoming,
) -> Result<Response<Body>, Refusal> {
    let (validated, outbound) = admit(rc, parts)?;
    let attempts = Attempts::new(context, rc, parts, &validated.path);
    match &validated.offer {
        Some(offer) => websocket::open(rc, attempts, parts, &validated.path, offer, outbound).await,
        // Boxed: otherwise the future of a WebSocket request would reserve space for it.
        None => Box::pin(forward(rc, attempts, parts, body, outbound)).await,
    }
}

/// Decides whether a request is forwarded, and what its backend receives; it sends nothing.
pub(crate) fn admit<'p>(
    rc: &mut RequestContext<'_>,
    parts: &'p Parts,
) -> Result<(ValidatedRequest<'p>, Outbound), Refusal> {
    let mut validated = validate(rc, parts)?;
    route(rc, parts, &validated)?;
    authorize(rc, parts, &validated)?;
    let outbound = rewrite::rewrite(rc, parts, &mut validated)?;
    authorize_token(rc, parts, &validated, &outbound)?;
    Ok((validated, outbound))
}

/// Refuses a malformed or ambiguous request, and one that its connection may not carry.
fn validate<'p>(
    rc: &mut RequestContext<'_>,
    parts: &'p Parts,
) -> Result<ValidatedRequest<'p>, Refusal> {
    let validated = validate::validate(parts)?;
    client_cert::check_misdirected(rc, &validated)?;
    Ok(validated)
}

/// Selects the route.
fn route(
    rc: &mut RequestContext<'_>,
    parts: &Parts,
    validated: &ValidatedRequest<'_>,
) -> Result<(), Refusal> {
    let subprotocols = validated.subprotocols();
    let query = validated.route_query(&parts.headers, &subprotocols);
    match rc.gateway.router.find(&query) {
        Some(found) if found.fits => {
            rc.set_route(found.route);
            Ok(())
        }
        Some(found) if found.rule.only == Only::Websocket => Err(Refusal::upgrade_required(
            RefusalReason::OnlyWebsocket,
            "this route accepts WebSockets only",
        )),
        Some(_) => Err(Refusal::new(
            StatusCode::NOT_FOUND,
            RefusalReason::OnlyHttp,
            "this route accepts no WebSockets",
        )),
        None => Err(Refusal::new(
            StatusCode::NOT_FOUND,
            RefusalReason::NoRoute,
            format!("no route matches (Host: {})", validated.host),
        )),
    }
}

/// Applies the guards of the route.
fn authorize(
    rc: &mut RequestContext<'_>,
    parts: &Parts,
    validated: &ValidatedRequest<'_>,
) -> Result<(), Refusal> {
    let route = rc.route();
    client_cert::check(rc)?;
    if route.draining.load(Ordering::Relaxed) {
        return Err(Refusal::unavailable(
            RefusalReason::Draining,
            "this route is draining, try again later",
        ));
    }
    route.addresses.check(rc.client).map_err(forbidden)?;
    if validated.offer.is_some() {
        route
            .origins
            .check(&parts.headers, &validated.authority.host)
            .map_err(forbidden)?;
    }
    Ok(())
}

/// Checks the origin of a plain request whose token browsers send automatically. Backends trust that a page has set the
/// token header itself, but browsers send cookies with requests of any page.
fn authorize_token(
    rc: &mut RequestContext<'_>,
    parts: &Parts,
    validated: &ValidatedRequest<'_>,
    outbound: &Outbound,
) -> Result<(), Refusal> {
    if outbound.token.is_ambient() && validated.offer.is_none() {
        rc.route()
            .origins
            .check(&parts.headers, &validated.authority.host)
            .map_err(forbidden)?;
    }
    Ok(())
}

fn forbidden(denial: Denial) -> Refusal {
    Refusal::new(
        StatusCode::FORBIDDEN,
        RefusalReason::Guard(denial.why),
        denial.text,
    )
}
