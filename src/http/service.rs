//! One request: snapshot, gate, guards, and then a session, a plain answer, or a refusal. The only place that logs it.

use super::{
    Body, Context, Peer,
    asked::{Asked, Trail},
    forward::Plea,
    gate::{self, Vetted},
    patience::Busy,
    reject::Refusal,
    upgrade,
};
use crate::{
    config::Only,
    gateway::{Gateway, Route},
    observe::RequestRecord,
    proto::forwarded,
    router::Wanted,
};
use ::http::{Request, Response, StatusCode, Version, request::Parts};
use hyper::body::Incoming;
use std::sync::Arc;
use tokio::time::Instant;

/// Answers a request; never fails, for a refusal is an answer too.
pub(super) async fn answer(
    context: Arc<Context>,
    peer: Peer,
    busy: Busy,
    request: Request<Incoming>,
) -> Response<Body> {
    let gateway = context.live.snapshot();
    let client = forwarded::client(request.headers(), peer.address, |address| {
        gateway.trusts(address)
    });
    let asked = Asked {
        peer,
        client,
        started: Instant::now(),
        busy,
    };
    let line = Line::of(&request);
    let mut trail = Trail::default();
    let started = asked.started;
    let answer = pass(&context, &gateway, asked, request, &mut trail).await;
    let (status, why) = match &answer {
        Ok(response) => (response.status(), None),
        Err(refusal) => (refusal.status, Some(refusal.why)),
    };
    // A session has records of its own.
    if status != StatusCode::SWITCHING_PROTOCOLS {
        match why {
            Some(why) => context.metrics.refused(status.as_u16(), why),
            None => context.metrics.request(status.as_u16()),
        }
        context.access.request(&RequestRecord {
            client,
            http: line.version,
            method: &line.method,
            host: &line.host,
            path: &line.path,
            route: trail.route.as_deref(),
            backend: trail.backend.as_deref(),
            status: status.as_u16(),
            duration: started.elapsed(),
            why,
        });
    }
    answer.unwrap_or_else(|refusal| refusal.response())
}

/// Gate, route and guards; then the request goes on as what it is.
async fn pass(
    context: &Arc<Context>,
    gateway: &Gateway,
    asked: Asked,
    request: Request<Incoming>,
    trail: &mut Trail,
) -> Result<Response<Body>, Refusal> {
    let (parts, body) = request.into_parts();
    let vetted = gate::vet(&parts)?;
    let route = find(gateway, &parts, &vetted)?;
    trail.route = Some(route.name.clone());
    route.addresses.check(asked.client).map_err(forbidden)?;
    if vetted.offer.is_some() {
        route
            .origins
            .check(&parts.headers, &vetted.authority.host)
            .map_err(forbidden)?;
    }
    let outbound =
        super::outbound::rebuild(&parts, &vetted, gateway, route, asked.peer, asked.client)
            .map_err(|error| {
                Refusal::new(
                    StatusCode::INTERNAL_SERVER_ERROR,
                    "rebuild",
                    format!("the request cannot be passed on: {error}"),
                )
            })?;
    match vetted.offer {
        Some(offer) => {
            let (host, path) = (vetted.host.into(), vetted.path.as_str().into());
            let wish = upgrade::Wish {
                offer,
                host,
                path,
                outbound,
            };
            upgrade::open(context, route, asked, wish, parts.extensions, trail).await
        }
        None => {
            let body_idle = gateway.limits.body_idle.0;
            let plea = Plea {
                method: parts.method,
                outbound,
                extensions: parts.extensions,
                body,
                body_idle,
            };
            context.plain.forward(route, asked, plea, trail).await
        }
    }
}

fn find<'a>(
    gateway: &'a Gateway,
    request: &Parts,
    vetted: &Vetted<'_>,
) -> Result<&'a Route, Refusal> {
    let subprotocols: Vec<&str> = vetted
        .offer
        .iter()
        .flat_map(|offer| &offer.subprotocols)
        .map(|subprotocol| &**subprotocol)
        .collect();
    let wanted = Wanted {
        host: &vetted.authority.host,
        path: &vetted.path,
        headers: &request.headers,
        websocket: vetted.offer.is_some(),
        subprotocols: &subprotocols,
    };
    match gateway.router.find(&wanted) {
        Some(found) if found.fits => Ok(found.route),
        Some(found) if found.rule.only == Only::Websocket => Err(Refusal::upgrade_required(
            "only-websocket",
            "this address takes WebSockets only",
        )),
        Some(_) => Err(Refusal::new(
            StatusCode::NOT_FOUND,
            "only-http",
            "this address takes no WebSockets",
        )),
        None => Err(Refusal::new(
            StatusCode::NOT_FOUND,
            "no-route",
            "no route leads there",
        )),
    }
}

fn forbidden(refused: crate::guard::Refused) -> Refusal {
    Refusal::new(StatusCode::FORBIDDEN, refused.why, refused.text)
}

/// The request line, kept for the record: the request itself goes on.
struct Line {
    version: &'static str,
    method: String,
    host: String,
    path: String,
}

impl Line {
    fn of(request: &Request<Incoming>) -> Self {
        let host = request.headers().get(::http::header::HOST);
        Line {
            version: if request.version() == Version::HTTP_10 {
                "1.0"
            } else {
                "1.1"
            },
            method: request.method().to_string(),
            host: host
                .map(|host| String::from_utf8_lossy(host.as_bytes()).into_owned())
                .unwrap_or_default(),
            path: request.uri().path().to_owned(),
        }
    }
}
