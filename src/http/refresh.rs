//! Extends the sessions of a client whose token is about to expire: a POST with a newer token, to the `refresh_path` of
//! the guard that has verified the first one.

use crate::{
    gateway::{Gateway, route::Route},
    guard::{
        Denial, DenialReason,
        jwt::{JwtGuard, TokenError},
    },
    http::{
        authorize::{authorize, bearer_token},
        body::{self, Body, BodyStatus},
        client_permit::client_permit,
        context::Context,
        progress::ProgressLimits,
        refusal::{Refusal, RefusalReason},
        request::RequestContext,
        request_body::RequestBody,
        rewrite::Outbound,
        token,
        validate::{self, ValidatedRequest},
    },
    registry::expiry,
};
use ::http::{
    HeaderValue, Method, Response, StatusCode, header, request::Parts, uri::PathAndQuery,
};
use http_body_util::BodyExt;
use std::sync::Arc;

/// A request with a newer token.
pub(crate) struct RefreshTarget<'g, 'p> {
    parts: &'p Parts,
    validated: ValidatedRequest<'p>,
    route: &'g Route,
    guard: &'g JwtGuard,
}

/// Returns the target of a request for the `refresh_path` of a guard, if its host has a route with this guard. The
/// path belongs to no other host.
pub(crate) fn target<'g, 'p>(
    gateway: &'g Gateway,
    parts: &'p Parts,
) -> Option<RefreshTarget<'g, 'p>> {
    let path = parts.uri.path();
    if !gateway.is_refresh_path(path) {
        return None;
    }
    // Otherwise the request is refused as any other one.
    let validated = validate::validate(parts).ok()?;
    let (route, guard) = gateway.refresh_target(&validated.authority.host, path)?;
    Some(RefreshTarget {
        parts,
        validated,
        route,
        guard,
    })
}

/// Verifies the token of the request, and extends the sessions that it belongs to. Answers with their number.
pub(crate) async fn refresh(
    context: &Arc<Context>,
    rc: &mut RequestContext<'_>,
    target: RefreshTarget<'_, '_>,
    body: RequestBody,
) -> Result<Response<Body>, Refusal> {
    let RefreshTarget {
        parts,
        validated,
        route,
        guard,
    } = target;
    validate::check_head_size(parts, rc.gateway.limits.head_size.0)?;
    validate::check_misdirected(rc, &validated)?;
    rc.record.route = Some(route.name.clone());
    if parts.method != Method::POST {
        let text = "a newer token is sent by POST";
        let denial = Denial::new(StatusCode::METHOD_NOT_ALLOWED, DenialReason::Jwt, text);
        return Err(denial
            .with(header::ALLOW, HeaderValue::from_static("POST"))
            .into());
    }
    authorize(rc, route, parts, &validated)?;
    route
        .origins
        .check(&parts.headers, &validated.authority.host)?;
    rc.client_permit = Some(client_permit(context, rc, false)?);
    let outbound = relocate(route, parts, &validated)?;
    if outbound.token.is_ambient() && !parts.headers.contains_key(header::ORIGIN) {
        let text = "a token in a cookie counts only with an Origin that this route allows";
        return Err(Denial::forbidden(DenialReason::Origin, text).into());
    }
    discard(body, rc).await;
    let token = bearer_token(route, &parts.headers, &outbound);
    let verified = guard.authorize(token, &context.auth).await?;
    let origin = guard.origin(&verified);
    rc.record.subject = verified.subject().map(Into::into);
    if origin.is_empty() {
        return Err(guard.deny(TokenError::Claim).into());
    }
    let sessions = expiry::extend(&context.sessions, origin, verified.expires()).await;
    let mut response = Response::new(body::text(format!("{{\"sessions\": {sessions}}}\n")));
    let headers = response.headers_mut();
    headers.insert(
        header::CONTENT_TYPE,
        HeaderValue::from_static("application/json"),
    );
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    Ok(response)
}

/// Moves the token as the route does for its backend.
fn relocate(
    route: &Route,
    parts: &Parts,
    validated: &ValidatedRequest<'_>,
) -> Result<Outbound, Refusal> {
    let path = PathAndQuery::from_static("/");
    let mut target = parts.uri.path_and_query().cloned().unwrap_or(path);
    let mut headers = parts.headers.clone();
    if validated.offer.is_some() {
        let text = "a newer token is sent by a plain request";
        return Err(Refusal::new(
            StatusCode::NOT_FOUND,
            RefusalReason::OnlyHttp,
            text,
        ));
    }
    let token = match &route.token {
        Some(rule) => token::relocate_token(rule, &mut target, &mut headers, None)?,
        None => Default::default(),
    };
    Ok(Outbound {
        target,
        headers,
        agreement: None,
        token,
    })
}

/// Reads a body, which has no meaning, so that the connection stays usable.
async fn discard(body: RequestBody, rc: &RequestContext<'_>) {
    let limits = ProgressLimits::of_client(&rc.gateway.limits);
    let mut body = body::request_body(body, limits, Arc::new(BodyStatus::default()));
    let mut left = MAX_BODY_LEN;
    // A longer one ends the connection.
    while left > 0
        && let Some(Ok(frame)) = body.frame().await
    {
        left = left.saturating_sub(frame.data_ref().map_or(0, |data| data.len()));
    }
}

/// In bytes.
const MAX_BODY_LEN: usize = 64 * 1024;
