//! Evaluates a request with the same client address, validation, routes, guards and headers as the server, without
//! sending anything.

use crate::{
    gateway::{Gateway, route::Route},
    http::{
        admitted::AdmittedRequest,
        authorize::auth_request,
        peer::Peer,
        request::RequestContext,
        rewrite::Outbound,
        service,
        validate::{self, ValidatedRequest},
    },
};
use ::http::{HeaderValue, request::Parts};
use std::net::IpAddr;

/// The result of evaluating a request.
#[derive(Debug)]
pub(crate) struct Explanation {
    /// Every route in configuration order: name, rule and result. Empty if validation refuses the request.
    pub routes: Vec<(String, String, String)>,
    /// What would be sent, or the status and reason of the refusal.
    pub outcome: Result<WouldForward, WouldRefuse>,
}

/// A request that would be accepted.
#[derive(Debug)]
pub(crate) struct WouldForward {
    /// The route's name.
    pub route: String,
    /// The backends of the pool, in configuration order.
    pub backends: Vec<String>,
    /// The backends that receive another `Host` than that in `headers`, and that `Host`.
    pub hosts: Vec<(String, String)>,
    /// The request line that the backend would receive.
    pub line: String,
    /// The headers that the backend would receive.
    pub headers: Vec<(String, String)>,
    /// How the token was handled, without the token itself; "" if the route moves none.
    pub token: String,
    /// The guards of the route, in their order, each with its verdict.
    pub guards: Vec<(String, String)>,
    /// How the route's `framework` must be configured; "" if no setting is needed.
    pub advice: &'static str,
}

/// A request that would be refused.
#[derive(Debug)]
pub(crate) struct WouldRefuse {
    /// The status of the response.
    pub status: u16,
    /// A word of a closed set, as in the access log.
    pub why: &'static str,
    /// The message that the client would receive.
    pub text: String,
}

/// Evaluates `request` as if it arrived from `address`: the peer's address, or the one in its PROXY header.
pub(crate) fn explain(gateway: &Gateway, request: &Parts, address: IpAddr) -> Explanation {
    let routes = validate::validate(request).map_or_else(
        |_| Vec::new(),
        |validated| {
            let subprotocols = validated.subprotocols();
            let query = validated.route_query(&request.headers, &subprotocols);
            let verdicts = gateway.router.explain(&query).into_iter();
            verdicts
                .map(|(rule, route, verdict)| {
                    (
                        route.name.to_string(),
                        rule.to_string(),
                        verdict.to_string(),
                    )
                })
                .collect()
        },
    );
    // Assumes a connection that matches the host, and a client without a certificate.
    let requires_cert = |validated: ValidatedRequest<'_>| {
        gateway
            .tls
            .requires_client_auth(Some(&validated.authority.host))
    };
    let peer = Peer {
        client_auth_requested: validate::validate(request).is_ok_and(requires_cert),
        ..Peer::new((address, 0).into(), ([0; 4], 0).into())
    };
    let mut rc = RequestContext::new(gateway, None, peer, request);
    let admitted = service::admit(&mut rc, request);
    let outcome = admitted
        .map(|admitted| would_forward(&rc, &admitted))
        .map_err(|refusal| WouldRefuse {
            status: refusal.status.as_u16(),
            why: refusal.why.as_str(),
            text: refusal.text.into_owned(),
        });
    Explanation { routes, outcome }
}

fn would_forward(rc: &RequestContext<'_>, admitted: &AdmittedRequest<'_, '_>) -> WouldForward {
    let auth_request = auth_request(rc, admitted);
    let (route, outbound) = (admitted.route, &admitted.outbound);
    WouldForward {
        route: route.name.to_string(),
        backends: route.pool.shown(),
        hosts: route.pool.hosts(),
        line: format!("{} {} HTTP/1.1", admitted.parts.method, outbound.target),
        headers: outbound
            .headers
            .iter()
            .map(|(name, value)| (name.to_string(), redacted(value)))
            .collect(),
        token: token(route, outbound),
        guards: route
            .guards
            .iter()
            .map(|guard| (guard.name.to_string(), guard.explain(&auth_request)))
            .collect(),
        advice: route.expectations.advice,
    }
}

/// Returns a header value as text; of a secret, such as a token, only the scheme.
fn redacted(value: &HeaderValue) -> String {
    let text = String::from_utf8_lossy(value.as_bytes());
    match text.split_once(' ') {
        _ if !value.is_sensitive() => text.into_owned(),
        Some((scheme, _)) => format!("{scheme} [redacted]"),
        None => "[redacted]".to_owned(),
    }
}

fn token(route: &Route, outbound: &Outbound) -> String {
    let Some(rule) = &route.token else {
        return String::new();
    };
    let mut text = match &outbound.token.from {
        Some(source) => format!("moved from {source} to {}", rule.to),
        None => {
            let sources: Vec<String> = rule.from.iter().map(ToString::to_string).collect();
            format!("none in {}", sources.join(", "))
        }
    };
    if let Some(subprotocol) = outbound.token.subprotocol() {
        let echo =
            format!("; if the backend selects no subprotocol, Lockgate selects {subprotocol}");
        text.push_str(&echo);
    }
    text
}
