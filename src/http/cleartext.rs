//! Port 80: every request is sent to https.

use super::{
    Body, Context, gate,
    patience::StreamParts,
    reject::{Refusal, text},
    serve::drive,
};
use crate::splice::Socket;
use ::http::{HeaderValue, Request, Response, StatusCode, header};
use hyper::body::Incoming;
use std::{any::Any, net::IpAddr, sync::Arc};

/// Answers the requests of one clear-text connection with a redirect to `https_port`.
pub async fn serve_cleartext(
    context: Arc<Context>,
    stream: Socket,
    client: IpAddr,
    https_port: u16,
    guard: Box<dyn Any + Send + Sync>,
) {
    drive(
        &context,
        StreamParts { io: stream, guard },
        client,
        |request, _busy| {
            let answer = redirect(request, https_port);
            match &answer {
                Ok(redirect) => context.metrics.request(redirect.status().as_u16()),
                Err(refusal) => context
                    .metrics
                    .refused(refusal.status.as_u16(), refusal.why),
            }
            async { answer.unwrap_or_else(|refusal| refusal.response()) }
        },
    )
    .await;
}

/// 308: the method and the body stay what they are (RFC 9110 §15.4.9).
fn redirect(request: Request<Incoming>, https_port: u16) -> Result<Response<Body>, Refusal> {
    let (parts, _) = request.into_parts();
    let vetted = gate::vet(&parts)?;
    let host = match &*vetted.authority.host {
        v6 if v6.contains(':') => format!("[{v6}]"),
        name => name.to_owned(),
    };
    let port = match https_port {
        443 => String::new(),
        port => format!(":{port}"),
    };
    let query = parts
        .uri
        .query()
        .map(|query| format!("?{query}"))
        .unwrap_or_default();
    let location = format!("https://{host}{port}{}{query}", vetted.path);
    let location = HeaderValue::try_from(location)
        .map_err(|_| Refusal::bad("target", "bad request target"))?;
    let mut response = Response::new(text(String::new()));
    *response.status_mut() = StatusCode::PERMANENT_REDIRECT;
    response.headers_mut().insert(header::LOCATION, location);
    Ok(response)
}
