//! Extends the sessions of a client whose token is about to expire: a POST with a newer token, to the `refresh_path` of
//! the guard that has verified the first one.

use crate::{
    gateway::route::Route,
    guard::{Denial, DenialReason, jwt::TokenError},
    http::{
        authorize::bearer_token,
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

/// Verifies the token of the request, and extends the sessions that it belongs to. Answers with their number.
pub(crate) async fn refresh(
    context: &Arc<Context>,
    rc: &mut RequestContext<'_>,
    parts: &Parts,
    body: RequestBody,
) -> Result<Response<Body>, Refusal> {
    validate::check_head_size(parts, rc.gateway.limits.head_size.0)?;
    let validated = validate::validate(parts)?;
    validate::check_misdirected(rc, &validated)?;
    let host = &validated.authority.host;
    let found = rc
        .gateway
        .refresh_guard(parts.uri.path())
        .and_then(|guard| {
            let route = rc.gateway.guarded_route(guard, host)?;
            Some((guard, route))
        });
    let Some((guard, route)) = found else {
        let text = "no route of this host has sessions that a token extends";
        return Err(Refusal::new(
            StatusCode::NOT_FOUND,
            RefusalReason::NoRoute,
            text,
        ));
    };
    rc.record.route = Some(route.name.clone());
    if parts.method != Method::POST {
        let text = "a newer token is sent by POST";
        let denial = Denial::new(StatusCode::METHOD_NOT_ALLOWED, DenialReason::Jwt, text);
        return Err(denial
            .with(header::ALLOW, HeaderValue::from_static("POST"))
            .into());
    }
    route.addresses.check(rc.client)?;
    route.origins.check(&parts.headers, host)?;
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
