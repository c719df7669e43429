//! The journey of a request: validate → route → authorize → rewrite → acquire → open a session or forward.
//!
//! Every step receives the [`RequestContext`], and refuses the request or prepares the next step. `lockgate explain`
//! calls [`admit`], which has the steps up to `rewrite`; the others also receive its result, an [`AdmittedRequest`].

use crate::{
    config::Only,
    gateway::route::Route,
    http::{
        admitted::AdmittedRequest,
        authorize::{authorize, authorize_identity, authorize_token},
        body::Body,
        challenge::http01_response,
        client_permit::client_permit,
        conn_state::InFlight,
        context::Context,
        forward::forward,
        peer::Peer,
        refresh,
        refusal::{Refusal, RefusalReason},
        request::RequestContext,
        request_body::RequestBody,
        rewrite,
        validate::{self, ValidatedRequest},
        websocket,
    },
    proto::{handshake::BadHandshake, path::BadPath},
    router::rule::RouteQuery,
};
use ::http::{HeaderMap, Request, Response, StatusCode, request::Parts};
use hyper::upgrade::OnUpgrade;
use std::sync::Arc;

/// Answers a request; never fails, because a refusal is a response too.
pub(crate) async fn answer(
    context: Arc<Context>,
    peer: Peer,
    in_flight: InFlight,
    request: Request<RequestBody>,
) -> Response<Body> {
    let gateway = context.live.snapshot();
    let (mut parts, body) = request.into_parts();
    let mut rc = RequestContext::new(&gateway, Some(context.clone()), peer, &parts);
    let connection = in_flight.connection().clone();
    rc.in_flight = Some(in_flight);
    rc.upgrade = parts.extensions.remove::<OnUpgrade>();
    let response = respond(&context, &mut rc, &parts, body).await;
    rc.record.end(&response);
    connection.end().keep_upgrade(rc.upgrade.take());
    response.unwrap_or_else(|refusal| refusal.respond(rc.version, connection.end()))
}

async fn respond(
    context: &Arc<Context>,
    rc: &mut RequestContext<'_>,
    parts: &Parts,
    body: RequestBody,
) -> Result<Response<Body>, Refusal> {
    if rc.peer.is_cleartext
        && let Some(response) = http01_response(context, parts.uri.path())
    {
        return Ok(response);
    }
    if let Some(target) = refresh::target(rc.gateway, parts) {
        return Box::pin(refresh::refresh(context, rc, target, body)).await;
    }
    let mut request = admit(rc, parts)?;
    let is_handshake = request.validated.offer.is_some();
    rc.client_permit = Some(client_permit(context, rc, is_handshake)?);
    // Boxed, too: otherwise the future of a WebSocket request would reserve space for them.
    let further = if request.route.guards.is_empty() {
        HeaderMap::new()
    } else {
        Box::pin(authorize_identity(context, rc, &mut request)).await?
    };
    let response = match &request.validated.offer {
        Some(offer) => websocket::open(context, rc, &request, offer).await,
        None => Box::pin(forward(context, rc, &request, body)).await,
    };
    // Such as a cookie with a longer sign-in, which a client must receive with a refusal, too.
    match response {
        Ok(mut response) => {
            let headers = response.headers_mut();
            for (name, value) in &further {
                headers.append(name, value.clone());
            }
            Ok(response)
        }
        Err(refusal) => Err(further.iter().fold(refusal, |refusal, (name, value)| {
            refusal.with(name.clone(), value.clone())
        })),
    }
}

/// Decides whether a request is forwarded, and what its backend receives; it sends nothing.
pub(crate) fn admit<'g, 'p>(
    rc: &mut RequestContext<'g>,
    parts: &'p Parts,
) -> Result<AdmittedRequest<'g, 'p>, Refusal> {
    validate::check_head_size(parts, rc.gateway.limits.head_size.0)?;
    let mut validated = validate::validate(parts)?;
    validate::check_misdirected(rc, &validated)?;
    let route = select_route(rc, parts, &validated)?;
    if let Some(offer) = &validated.offer
        && offer.lacks_connection
        && !route.accepts_lenient
    {
        return Err(validate::refuse_handshake(BadHandshake::MissingConnection));
    }
    authorize(rc, route, parts, &validated)?;
    let outbound = rewrite::rewrite(rc, route, parts, &mut validated)?;
    authorize_token(route, parts, &validated, &outbound)?;
    Ok(AdmittedRequest {
        parts,
        validated,
        route,
        outbound,
    })
}

/// Selects the route.
fn select_route<'g>(
    rc: &mut RequestContext<'g>,
    parts: &Parts,
    validated: &ValidatedRequest<'_>,
) -> Result<&'g Route, Refusal> {
    let subprotocols = validated.subprotocols();
    let query = validated.route_query(&parts.headers, &subprotocols);
    let found = rc.gateway.router.find(&query);
    if let Some(separated) = &validated.separated_path {
        let path = separated;
        let other = rc.gateway.router.find(&RouteQuery { path, ..query });
        let is_clear = found.as_ref().zip(other).is_some_and(|(one, other)| {
            one.route.keeps_path && std::ptr::eq(one.route, other.route)
        });
        if !is_clear {
            return Err(validate::refuse_path(BadPath::EscapedSlash));
        }
    }
    match found {
        Some(found) if found.fits => {
            rc.record.route = Some(found.route.name.clone());
            Ok(found.route)
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
        // Only a route for every host can serve it.
        None if validated.host.is_empty() => {
            Err(Refusal::bad(RefusalReason::Host, "the request has no Host"))
        }
        None => Err(Refusal::new(
            StatusCode::NOT_FOUND,
            RefusalReason::NoRoute,
            format!(
                "no route matches (Host: {}): `lockgate explain` with the URL, on the server, shows why",
                validated.host
            ),
        )),
    }
}
