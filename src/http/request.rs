//! Data about a request in progress, and the fields of its access record.

use crate::{
    http::{Body, Context, Peer, refusal::Refusal, timeouts::InFlight},
    observe::access::record::RequestRecord,
};
use ::http::{Request, Response, Version, header};
use hyper::body::Incoming;
use std::{net::IpAddr, sync::Arc};
use tokio::time::Instant;

/// Data about a request that its response depends on.
pub(crate) struct RequestContext {
    pub(crate) peer: Peer,
    /// The client's address: behind a trusted proxy, the address that the proxy names.
    pub(crate) client: IpAddr,
    pub(crate) started: Instant,
    pub(crate) version: Version,
    /// Held until the response body is complete.
    pub(crate) in_flight: InFlight,
}

/// The route and the backend of a request, as its access record names them.
#[derive(Default)]
pub(crate) struct RouteInfo {
    pub(crate) route: Option<Arc<str>>,
    pub(crate) backend: Option<Arc<str>>,
    /// Set when the request became a session, which has records of its own.
    pub(crate) session: bool,
}

/// Returns the name of an HTTP version in access records.
pub(crate) fn version_str(version: Version) -> &'static str {
    match version {
        Version::HTTP_2 => "2",
        Version::HTTP_10 => "1.0",
        _ => "1.1",
    }
}

// The access record of a request: written exactly once, on every path.

/// The fields of a request's access record. Dropped early, it records that the client has disconnected.
pub(crate) struct AccessRecord {
    /// Filled in as the request proceeds.
    pub(crate) route_info: RouteInfo,
    context: Arc<Context>,
    client: IpAddr,
    started: Instant,
    version: &'static str,
    method: String,
    host: String,
    path: String,
    written: bool,
}

// === impl AccessRecord ===

impl AccessRecord {
    /// Copies the request line, because the request is consumed.
    pub(crate) fn of(context: Arc<Context>, request: &Request<Incoming>, client: IpAddr) -> Self {
        let host = request
            .headers()
            .get(header::HOST)
            .map(|host| host.as_bytes());
        let authority = request.uri().authority().map(|it| it.as_str().as_bytes());
        AccessRecord {
            route_info: RouteInfo::default(),
            context,
            client,
            started: Instant::now(),
            version: version_str(request.version()),
            method: request.method().to_string(),
            host: host
                .or(authority)
                .map(|host| String::from_utf8_lossy(host).into_owned())
                .unwrap_or_default(),
            path: request.uri().path().to_owned(),
            written: false,
        }
    }

    /// Records how the request was answered.
    pub(crate) fn end(mut self, answer: &Result<Response<Body>, Refusal>) {
        match answer {
            Ok(_) if self.route_info.session => self.written = true,
            Ok(response) => self.write(response.status().as_u16(), None),
            Err(refusal) => self.write(refusal.status.as_u16(), Some(refusal.why)),
        }
    }

    fn write(&mut self, status: u16, why: Option<&'static str>) {
        self.written = true;
        let context = &self.context;
        match why {
            Some(why) => context.metrics.refused(status, why),
            None => context.metrics.request(status),
        }
        context.access.request(&RequestRecord {
            client: self.client,
            http: self.version,
            method: &self.method,
            host: &self.host,
            path: &self.path,
            route: self.route_info.route.as_deref(),
            backend: self.route_info.backend.as_deref(),
            status,
            duration: self.started.elapsed(),
            why,
        });
    }
}

impl Drop for AccessRecord {
    fn drop(&mut self) {
        if !self.written {
            self.write(CLIENT_CLOSED_REQUEST, Some("client-left"));
        }
    }
}

/// nginx's status for a client that disconnected before it received the response.
const CLIENT_CLOSED_REQUEST: u16 = 499;
