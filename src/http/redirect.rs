//! Port 80: answers ACME HTTP-01 challenges and redirects every other request to https, whatever its host.

use crate::{
    http::{
        body::{Body, text},
        challenge::http01_response,
        context::Context,
        refusal::{Refusal, RefusalReason},
        request::AccessRecord,
        server::drive,
        timeouts::{ConnectionGuard, StreamParts},
        validate,
    },
    net::socket::Socket,
    proto::forwarded,
};
use ::http::{HeaderValue, Response, StatusCode, header, request::Parts};
use std::{net::IpAddr, sync::Arc};

/// Answers the requests of one clear-text connection with a redirect to `https_port`.
pub(crate) async fn serve_redirect(
    context: Arc<Context>,
    stream: Socket,
    peer: IpAddr,
    https_port: u16,
    guard: ConnectionGuard,
) {
    let own = stream.tcp().local_addr().map_or(80, |at| at.port());
    let ports = Ports {
        own,
        https: https_port,
    };
    drive(
        &context,
        StreamParts { io: stream, guard },
        peer,
        |request, in_flight| {
            let (mut parts, _) = request.into_parts();
            let end = in_flight.connection().end();
            end.keep_upgrade(parts.extensions.remove());
            let gateway = context.live.snapshot();
            let client = gateway.client_addr(&parts.headers, peer);
            let mut record = AccessRecord::new(Some(context.clone()), &parts, client);
            let response = match http01_response(&context, parts.uri.path()) {
                Some(response) => Ok(response),
                None => redirect(&parts, ports, gateway.limits.head_size.0),
            };
            record.end(&response);
            async move {
                response.unwrap_or_else(|refusal| {
                    refusal.respond(parts.version, in_flight.connection().end())
                })
            }
        },
    )
    .await;
}

/// The local address of the clear-text connection, and the https port.
#[derive(Clone, Copy)]
struct Ports {
    own: u16,
    https: u16,
}

/// Redirects with 308, so that the method and the body stay the same (RFC 9110 §15.4.9).
fn redirect(parts: &Parts, ports: Ports, max_head: u64) -> Result<Response<Body>, Refusal> {
    validate::check_head_size(parts, max_head)?;
    let validated = validate::validate(parts)?;
    // The client would follow the redirect to the same proxy, which would send the request here again. It counts from
    // any peer, because a proxy that causes this is often not in `server.trusted_proxies`.
    if let Some("https" | "wss") = forwarded::proto(&parts.headers, true) {
        return Err(Refusal::bad(RefusalReason::ForwardedProto, MARKED_HTTPS));
    }
    let host = match &*validated.authority.host {
        v6 if v6.contains(':') => format!("[{v6}]"),
        name => name.to_owned(),
    };
    // A client that reached a port other than 80 without naming one came through a port mapping (containers); then
    // https is mapped as well.
    let mapped = validated.authority.port.is_none() && ports.own != 80;
    let port = match ports.https {
        443 => String::new(),
        _ if mapped => String::new(),
        port => format!(":{port}"),
    };
    let query = parts
        .uri
        .query()
        .map(|query| format!("?{query}"))
        .unwrap_or_default();
    let location = format!("https://{host}{port}{}{query}", validated.path);
    let location = HeaderValue::try_from(location)
        .map_err(|_| Refusal::bad(RefusalReason::Target, "bad request target"))?;
    let mut response = Response::new(text(String::new()));
    *response.status_mut() = StatusCode::PERMANENT_REDIRECT;
    response.headers_mut().insert(header::LOCATION, location);
    Ok(response)
}

const MARKED_HTTPS: &str = "a proxy has marked this request as https (X-Forwarded-Proto), so a redirect to https would not \
    end: this listener (server.http) only redirects, and requests of such a proxy belong to a listener of server.cleartext";
