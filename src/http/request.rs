//! A request in progress: the context that every step of `service.rs` receives, and the guard that writes its access
//! record.

use crate::{
    gateway::{Gateway, route::Route},
    guard::recheck::SessionRecheck,
    http::{
        client_table::ClientPermit,
        conn_state::InFlight,
        context::Context,
        peer::Peer,
        refusal::{Refusal, RefusalReason},
    },
    observe::access::record::RequestRecord,
    registry::identity::SessionIdentity,
};
use ::http::{Response, Version, header, request::Parts};
use hyper::upgrade::OnUpgrade;
use std::{net::IpAddr, sync::Arc, time::Duration};
use tokio::time::Instant;

/// A request in progress, from its arrival to its response or session.
pub(crate) struct RequestContext<'g> {
    /// The gateway that was current when the request arrived.
    pub(crate) gateway: &'g Gateway,
    /// The end of the connection, with the certificate that identifies the client, if any.
    pub(crate) peer: Peer,
    /// The client's address: behind a trusted proxy, the address that the proxy names.
    pub(crate) client: IpAddr,
    pub(crate) version: Version,
    pub(crate) started: Instant,
    /// The time in which the handshake waited for another session of its connection to end.
    pub(crate) waited: Duration,
    /// Held until the response body is complete, or as long as the session; `None` in an explanation.
    pub(crate) in_flight: Option<InFlight>,
    /// Held as long as `in_flight`.
    pub(crate) client_permit: Option<ClientPermit>,
    /// Who the client is, if guards have verified it.
    pub(crate) identity: Option<Box<SessionIdentity>>,
    /// How the session is checked again while it is open.
    pub(crate) recheck: Option<Box<SessionRecheck>>,
    /// The client's stream after a 101.
    pub(crate) upgrade: Option<OnUpgrade>,
    /// Writes the access record.
    pub(crate) record: AccessRecord,
}

/// The fields of a request's access record, which is written exactly once, on every path. Dropped early, it records
/// that the client has disconnected.
pub(crate) struct AccessRecord {
    /// The name of the route, also of a request that a later step refuses.
    pub(crate) route: Option<Arc<str>>,
    /// The name of the backend that was tried last.
    pub(crate) backend: Option<Arc<str>>,
    /// The name of the user or client that the guards have verified.
    pub(crate) subject: Option<Box<str>>,
    /// Set when the request became a session, which has records of its own.
    pub(crate) is_session: bool,
    /// Where the record is written; `None` once it has been written, and if none is wanted.
    context: Option<Arc<Context>>,
    client: IpAddr,
    started: Instant,
    version: &'static str,
    method: String,
    host: String,
    path: String,
}

// === impl RequestContext ===

impl<'g> RequestContext<'g> {
    /// Creates the context of a request that has not been validated, with the client's address. The access record is
    /// written to `context`; without one, nothing is written.
    pub(crate) fn new(
        gateway: &'g Gateway,
        context: Option<Arc<Context>>,
        peer: Peer,
        request: &Parts,
    ) -> Self {
        let client = gateway.client_addr(&request.headers, peer.address);
        let record = AccessRecord::new(context, request, client);
        RequestContext {
            gateway,
            peer,
            client,
            version: request.version,
            started: record.started,
            waited: Duration::ZERO,
            in_flight: None,
            client_permit: None,
            identity: None,
            recheck: None,
            upgrade: None,
            record,
        }
    }

    /// Returns the end of the handshake with a backend of `route`. `waited` does not count: no backend caused it.
    pub(crate) fn handshake_deadline(&self, route: &Route) -> Instant {
        self.started + self.waited + route.handshake_timeout
    }
}

// === impl AccessRecord ===

impl AccessRecord {
    /// Copies the request line, because the request is consumed. Without a context, nothing is written.
    pub(crate) fn new(context: Option<Arc<Context>>, request: &Parts, client: IpAddr) -> Self {
        let host = request
            .headers
            .get(header::HOST)
            .map(|host| host.as_bytes());
        let authority = request.uri.authority().map(|it| it.as_str().as_bytes());
        AccessRecord {
            route: None,
            backend: None,
            subject: None,
            is_session: false,
            context,
            client,
            started: Instant::now(),
            version: version_str(request.version),
            method: request.method.to_string(),
            host: host
                .or(authority)
                .map(|host| String::from_utf8_lossy(host).into_owned())
                .unwrap_or_default(),
            path: request.uri.path().to_owned(),
        }
    }

    /// Returns the host as the client sent it.
    pub(crate) fn host(&self) -> &str {
        &self.host
    }

    /// Records how the request was answered.
    pub(crate) fn end<B>(&mut self, result: &Result<Response<B>, Refusal>) {
        match result {
            Ok(_) if self.is_session => self.context = None,
            Ok(response) => self.write(response.status().as_u16(), None),
            Err(refusal) => self.write(refusal.status.as_u16(), Some(refusal.why)),
        }
    }

    fn write(&mut self, status: u16, why: Option<RefusalReason>) {
        let Some(context) = self.context.take() else {
            return;
        };
        let why = why.map(RefusalReason::as_str);
        match why {
            Some(why) => context.metrics.count_refusal(status, why),
            None => context.metrics.count_request(status),
        }
        context.access.request(&RequestRecord {
            client: self.client,
            http: self.version,
            method: &self.method,
            host: &self.host,
            path: &self.path,
            route: self.route.as_deref(),
            backend: self.backend.as_deref(),
            subject: self.subject.as_deref(),
            status,
            duration: self.started.elapsed(),
            why,
        });
    }
}

impl Drop for AccessRecord {
    fn drop(&mut self) {
        self.write(CLIENT_CLOSED_REQUEST, Some(RefusalReason::ClientLeft));
    }
}

/// Returns the name of an HTTP version in access records.
pub(crate) fn version_str(version: Version) -> &'static str {
    match version {
        Version::HTTP_2 => "2",
        Version::HTTP_10 => "1.0",
        _ => "1.1",
    }
}

/// nginx's status for a client that disconnected before it received the response.
const CLIENT_CLOSED_REQUEST: u16 = 499;
