//! Applies the guards of a route: addresses, origins and client certificates, then the guards that it lists by name.

use crate::{
    config::ClientCert,
    gateway::route::Route,
    guard::{
        authorization::{AuthRequest, Authorized, BearerToken},
        identity,
    },
    http::{
        admitted::AdmittedRequest,
        context::Context,
        refusal::{Refusal, RefusalReason},
        request::RequestContext,
        rewrite::{Outbound, X_FORWARDED_PROTO},
        validate::ValidatedRequest,
    },
    observe::log_throttle::LogThrottle,
};
use ::http::{HeaderMap, StatusCode, header, request::Parts};
use std::sync::atomic::Ordering;
use tracing::warn;

/// Applies the guards of the route.
pub(crate) fn authorize(
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
    route.addresses.check(rc.client)?;
    if validated.offer.is_some() {
        route
            .origins
            .check(&parts.headers, &validated.authority.host)?;
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
pub(crate) fn authorize_token(
    route: &Route,
    parts: &Parts,
    validated: &ValidatedRequest<'_>,
    outbound: &Outbound,
) -> Result<(), Refusal> {
    if outbound.token.is_ambient() && validated.offer.is_none() {
        route
            .origins
            .check_ambient(&parts.method, &parts.headers, &validated.authority.host)?;
    }
    Ok(())
}

/// Runs the guards that the route lists, applies their header changes to the head for the backend, and returns the
/// headers that the response has in addition.
pub(crate) async fn authorize_identity(
    context: &Context,
    rc: &mut RequestContext<'_>,
    request: &mut AdmittedRequest<'_, '_>,
) -> Result<HeaderMap, Refusal> {
    let guards = &request.route.guards;
    if guards.is_empty() {
        return Ok(HeaderMap::new());
    }
    let auth_request = auth_request(rc, request);
    let authorized = identity::authorize(guards, &auth_request, &context.auth).await;
    let denied_by = authorized.as_ref().err();
    let denied_by = denied_by.and_then(|denial| denial.guard.as_deref());
    for guard in guards {
        let is_admitted = denied_by != Some(&*guard.name);
        context.metrics.count_guard(&guard.name, is_admitted);
        if !is_admitted {
            break;
        }
    }
    let authorized = authorized?;
    authorized.apply(&mut request.outbound.headers);
    let Authorized {
        identity,
        response_headers,
        recheck,
        ..
    } = authorized;
    let subject = identity.as_ref().map(|identity| identity.subject.clone());
    rc.record.subject = subject.filter(|subject| !subject.is_empty());
    rc.identity = identity;
    rc.recheck = recheck;
    Ok(response_headers.into_iter().collect())
}

/// Returns what the guards see of a request.
pub(crate) fn auth_request<'a>(
    rc: &RequestContext<'_>,
    request: &'a AdmittedRequest<'_, '_>,
) -> AuthRequest<'a> {
    let (parts, outbound) = (request.parts, &request.outbound);
    let scheme = match outbound
        .headers
        .get(X_FORWARDED_PROTO)
        .map(|it| it.as_bytes())
    {
        Some(b"http" | b"ws") => "http",
        _ => "https",
    };
    let target = parts.uri.path_and_query();
    AuthRequest {
        method: &parts.method,
        scheme,
        host: request.validated.host,
        target: target.map_or("/", |target| target.as_str()),
        client: rc.client,
        is_handshake: request.validated.offer.is_some(),
        headers: &parts.headers,
        token: bearer_token(request.route, &parts.headers, outbound),
    }
}

/// Returns the token of a request: the one that the route moves, or that of `Authorization: Bearer`. Two different
/// ones are ambiguous: the backend could use the one that was not verified.
pub(crate) fn bearer_token<'a>(
    route: &Route,
    client: &'a HeaderMap,
    outbound: &'a Outbound,
) -> BearerToken<'a> {
    let moved = route
        .token
        .as_ref()
        .filter(|_| outbound.token.from.is_some());
    let moved = moved.and_then(|rule| outbound.headers.get(&rule.to.0));
    let is_bare = route
        .token
        .as_ref()
        .is_some_and(|rule| rule.to.0 != header::AUTHORIZATION);
    let mut found: Option<&str> = None;
    let own = client.get_all(header::AUTHORIZATION).into_iter();
    for (value, is_bare) in own
        .map(|value| (value, false))
        .chain(moved.map(|value| (value, is_bare)))
    {
        let Ok(text) = value.to_str() else {
            return BearerToken::Ambiguous;
        };
        let token = match text.split_once(' ') {
            _ if is_bare => text,
            Some((scheme, token)) if scheme.eq_ignore_ascii_case("bearer") => token.trim(),
            // Of another scheme, which another guard may want.
            _ => continue,
        };
        if found.is_some_and(|found| found != token) {
            return BearerToken::Ambiguous;
        }
        found = Some(token);
    }
    found.map_or(BearerToken::Absent, BearerToken::Present)
}

static CLEARTEXT_ORIGINS: LogThrottle = LogThrottle::new();
