//! Evaluates a request with the same validation, routes, guards and headers as the server, without sending anything.

use super::{
    Peer,
    asked::RouteInfo,
    gate::{self, ValidatedRequest},
    service::{Decided, resolve},
};
use crate::gateway::Gateway;
use ::http::{HeaderValue, request::Parts};
use std::net::IpAddr;

/// The result of evaluating a request.
#[derive(Debug)]
pub struct Explanation {
    /// Every route in configuration order: name, rule and result. Empty if validation refuses the request.
    pub routes: Vec<(String, String, String)>,
    /// What would be sent, or the status and reason of the refusal.
    pub outcome: Result<WouldForward, WouldRefuse>,
}

/// A request that would be accepted.
#[derive(Debug)]
pub struct WouldForward {
    /// The route's name.
    pub route: String,
    /// The backends that are candidates for the request, in configuration order.
    pub backends: Vec<String>,
    /// The request line that the backend would receive.
    pub line: String,
    /// The headers that the backend would receive.
    pub headers: Vec<(String, String)>,
    /// How the token was handled, without the token itself; "" if the route moves none.
    pub token: String,
    /// What the route's `framework` has to be configured with; "" if nothing.
    pub advice: &'static str,
}

/// A request that would be refused.
#[derive(Debug)]
pub struct WouldRefuse {
    /// The status of the response.
    pub status: u16,
    /// A word of a closed set, as in the access log.
    pub why: &'static str,
    /// The message that the client would receive.
    pub text: String,
}

/// Evaluates `request` as if it came from `client`.
pub fn explain(gateway: &Gateway, request: &Parts, client: IpAddr) -> Explanation {
    let routes = gate::validate(request).map_or_else(
        |_| Vec::new(),
        |vetted| {
            let subprotocols = vetted.subprotocols();
            let wanted = vetted.wanted(&request.headers, &subprotocols);
            let told = gateway.router.explain(&wanted).into_iter();
            told.map(|(rule, route, verdict)| {
                (
                    route.name.to_string(),
                    rule.to_string(),
                    verdict.to_string(),
                )
            })
            .collect()
        },
    );
    // The connection is assumed to match the host, and there is no client certificate to present.
    let asks = |vetted: ValidatedRequest<'_>| {
        gateway
            .tls
            .requires_client_auth(Some(&vetted.authority.host))
    };
    let peer = Peer {
        address: client,
        port: 0,
        reached: ([0; 4], 0).into(),
        asked: gate::validate(request).is_ok_and(asks),
        identity: None,
    };
    let outcome = resolve(gateway, request, &peer, client, &mut RouteInfo::default());
    let outcome = outcome
        .map(|decided| passed(request, &decided))
        .map_err(|refusal| WouldRefuse {
            status: refusal.status.as_u16(),
            why: refusal.why,
            text: refusal.text.into_owned(),
        });
    Explanation { routes, outcome }
}

fn passed(request: &Parts, decided: &Decided<'_>) -> WouldForward {
    let (route, outbound) = (decided.route, &decided.outbound);
    WouldForward {
        route: route.name.to_string(),
        backends: route.pool.shown(),
        line: format!("{} {} HTTP/1.1", request.method, outbound.target),
        headers: outbound
            .headers
            .iter()
            .map(|(name, value)| (name.to_string(), shown(value)))
            .collect(),
        token: token(decided),
        advice: route.expectations.advice,
    }
}

/// Returns the scheme of a secret, such as a token, at most.
fn shown(value: &HeaderValue) -> String {
    let text = String::from_utf8_lossy(value.as_bytes());
    match text.split_once(' ') {
        _ if !value.is_sensitive() => text.into_owned(),
        Some((scheme, _)) => format!("{scheme} [redacted]"),
        None => "[redacted]".to_owned(),
    }
}

fn token(decided: &Decided<'_>) -> String {
    let Some(rule) = &decided.route.token else {
        return String::new();
    };
    let mut told = match &decided.carried.from {
        Some(place) => format!("moved from {place} to {}", rule.to),
        None => {
            let places: Vec<String> = rule.from.iter().map(ToString::to_string).collect();
            format!("none in {}", places.join(", "))
        }
    };
    if let Some(subprotocol) = decided.carried.subprotocol() {
        let answer =
            format!("; where the backend chooses no subprotocol, the answer is {subprotocol}");
        told.push_str(&answer);
    }
    told
}
