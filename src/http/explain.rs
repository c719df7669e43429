//! What would become of a request: the same gate, routes, guards and headers, and nothing is sent.

use super::{
    Peer,
    asked::RouteInfo,
    gate::{self, ValidatedRequest},
    service::{Decided, resolve},
};
use crate::gateway::Gateway;
use ::http::{HeaderValue, request::Parts};
use std::net::IpAddr;

/// What would become of a request.
#[derive(Debug)]
pub struct Explanation {
    /// Every route in the order written: its name, its rule, and how it fared. Empty where the gate refuses.
    pub routes: Vec<(String, String, String)>,
    /// What would be sent, or with what and why the request would be refused.
    pub outcome: Result<WouldForward, WouldRefuse>,
}

/// A request that would pass.
#[derive(Debug)]
pub struct WouldForward {
    /// The route's name.
    pub route: String,
    /// The backends of which one would get it, in the order written.
    pub backends: Vec<String>,
    /// The first line of what it would get.
    pub line: String,
    /// The headers it would get.
    pub headers: Vec<(String, String)>,
    /// What was done with the token, which is not told itself; "" where the route moves none.
    pub token: String,
    /// What the route's `framework` must be told; "" if nothing.
    pub advice: &'static str,
}

/// A request that would be refused.
#[derive(Debug)]
pub struct WouldRefuse {
    /// The status of the answer.
    pub status: u16,
    /// A word of a closed set, as in the access log.
    pub why: &'static str,
    /// What the client would be told.
    pub text: String,
}

/// Asks what would become of `request` from `client`.
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
    // It came by the right connection, and there is no certificate that it could show.
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

/// Of a secret, such as a token, its scheme at most.
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
