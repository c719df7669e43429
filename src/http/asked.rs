//! Data about a request in progress, and the fields of its access record.

use super::{Peer, patience::InFlight};
use ::http::Version;
use std::{net::IpAddr, sync::Arc};
use tokio::time::Instant;

/// Data about a request that its response depends on.
pub(super) struct RequestContext {
    pub(super) peer: Peer,
    /// The client's address: behind a trusted proxy, the address that the proxy names.
    pub(super) client: IpAddr,
    pub(super) started: Instant,
    pub(super) version: Version,
    /// Held until the response body is complete.
    pub(super) in_flight: InFlight,
}

/// The route and the backend of a request, as its access record names them.
#[derive(Default)]
pub(super) struct RouteInfo {
    pub(super) route: Option<Arc<str>>,
    pub(super) backend: Option<Arc<str>>,
    /// Set when the request became a session, which has records of its own.
    pub(super) session: bool,
}

/// Returns the name of an HTTP version in access records.
pub(super) fn version_str(version: Version) -> &'static str {
    match version {
        Version::HTTP_2 => "2",
        Version::HTTP_10 => "1.0",
        _ => "1.1",
    }
}
