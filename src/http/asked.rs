//! What is known of a request on its way, and what will be told of it.

use super::{Peer, patience::InFlight};
use ::http::Version;
use std::{net::IpAddr, sync::Arc};
use tokio::time::Instant;

/// What is known of a request when it is answered.
pub(super) struct RequestContext {
    pub(super) peer: Peer,
    /// Who asks in the end: behind a trusted proxy the address that it names.
    pub(super) client: IpAddr,
    pub(super) started: Instant,
    pub(super) version: Version,
    /// Held until the answer's body is through.
    pub(super) busy: InFlight,
}

/// Where a request was sent, for its record.
#[derive(Default)]
pub(super) struct RouteInfo {
    pub(super) route: Option<Arc<str>>,
    pub(super) backend: Option<Arc<str>>,
    /// It became a session, which has records of its own.
    pub(super) session: bool,
}

/// How records name a version.
pub(super) fn version_str(version: Version) -> &'static str {
    match version {
        Version::HTTP_2 => "2",
        Version::HTTP_10 => "1.0",
        _ => "1.1",
    }
}
