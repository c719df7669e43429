//! The journey of a request: validate → route → authorize → rewrite → acquire → open a session or forward.
//!
//! Every step receives the [`RequestContext`], and refuses the request or prepares the next step. `lockgate explain`
//! calls [`admit`], which has the steps up to `rewrite`; the others also receive its result, an [`AdmittedRequest`].

use crate::{
    config::{ClientCert, Only},
    gateway::route::Route,
    guard::Denial,
    http::{
        admitted::AdmittedRequest,
        body::Body,
        challenge::http01_response,
        client_table::{ClientLimit, ClientLimits, ClientPermit, ClientUse},
        conn_state::InFlight,
        context::Context,
        forward::forward,
        peer::Peer,
        refusal::{Refusal, RefusalReason},
        request::RequestContext,
        request_body::RequestBody,
        rewrite::{self, Outbound},
        validate::{self, ValidatedRequest},
        websocket,
    },
    observe::log_throttle::LogThrottle,
    proto::{handshake::BadHandshake, path::BadPath},
    router::rule::RouteQuery,
};
use ::http::{Request, Response, StatusCode, request::Parts};
use hyper::upgrade::OnUpgrade;
use std::sync::{Arc, atomic::Ordering};
use tracing::warn;

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
    let request = admit(rc, parts)?;
    let offer = &request.validated.offer;
    rc.client_permit = Some(client_permit(context, rc, offer.is_some())?);
    match offer {
        Some(offer) => websocket::open(context, rc, &request, offer).await,
        // Boxed: otherwise the future of a WebSocket request would reserve space for it.
        None => Box::pin(forward(context, rc, &request, body)).await,
    }
}

/// Applies the limits per client address, and the shares of descriptors and memory.
fn client_permit(
    context: &Context,
    rc: &RequestContext<'_>,
    is_handshake: bool,
) -> Result<ClientPermit, Refusal> {
    let limits = &rc.gateway.limits;
    let (used_for, max, reason, text) = if is_handshake {
        (
            ClientUse::Session,
            limits.sessions_per_ip,
            RefusalReason::SessionsShare,
            "too many WebSockets from this address, try again later",
        )
    } else {
        (
            ClientUse::Request,
            limits.requests_per_ip,
            RefusalReason::RequestsShare,
            "too many concurrent requests from this address, try again later",
        )
    };
    let limits = ClientLimits::new(rc.gateway, rc.client, max);
    let permit = context.clients.acquire(rc.client, used_for, limits);
    permit.map_err(|limit| match limit {
        ClientLimit::PerIp => Refusal::unavailable(reason, text),
        ClientLimit::Descriptors => Refusal::unavailable(RefusalReason::DescriptorsShare, BUSY),
        ClientLimit::Memory => Refusal::unavailable(RefusalReason::MemoryShare, BUSY),
    })
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

/// Applies the guards of the route.
fn authorize(
    rc: &RequestContext<'_>,
    route: &Route,
    parts: &Parts,
    validated: &ValidatedRequest<'_>,
) -> Result<(), Refusal> {
    if route.client_cert != ClientCert::Off && rc.peer.is_cleartext {
        return Err(Refusal::new(
            StatusCode::FORBIDDEN,
            RefusalReason::ClientCert,
            "this route uses client certificates (client_cert), which only the TLS listeners verify (server.https)",
        ));
    }
    if route.client_cert == ClientCert::Require && rc.peer.client_cert.is_none() {
        return Err(Refusal::new(
            StatusCode::FORBIDDEN,
            RefusalReason::ClientCert,
            "this route requires a client certificate, and the client has presented none (client_cert = \"require\")",
        ));
    }
    if route.draining.load(Ordering::Relaxed) {
        return Err(Refusal::draining());
    }
    route.addresses.check(rc.client).map_err(forbidden)?;
    if validated.offer.is_some() {
        route
            .origins
            .check(&parts.headers, &validated.authority.host)
            .map_err(forbidden)?;
        if route
            .origins
            .is_cleartext_same_host(&parts.headers, &validated.authority.host)
            && let Some(suppressed) = CLEARTEXT_ORIGINS.allow()
        {
            warn!(
                client = %rc.client,
                route = %route.name,
                host = %validated.authority.host,
                suppressed,
                "a page loaded over http:// opens a WebSocket of its own host; the next minor version refuses it unless `origins` lists it; serve the page over https"
            );
        }
    }
    Ok(())
}

/// Checks the origin of a plain request whose token browsers send automatically. Backends trust that a page has set the
/// token header itself, but browsers send cookies with requests of any page, some of them without Origin.
fn authorize_token(
    route: &Route,
    parts: &Parts,
    validated: &ValidatedRequest<'_>,
    outbound: &Outbound,
) -> Result<(), Refusal> {
    if outbound.token.is_ambient() && validated.offer.is_none() {
        route
            .origins
            .check_ambient(&parts.method, &parts.headers, &validated.authority.host)
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

static CLEARTEXT_ORIGINS: LogThrottle = LogThrottle::new();

/// The text of a response to an address that is above its share of a scarce resource.
const BUSY: &str = "this server is busy and this address uses much of it, try again later";
