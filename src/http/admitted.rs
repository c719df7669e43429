//! A request after the steps that decide whether it is forwarded.

use crate::{
    gateway::route::Route,
    http::{rewrite::Outbound, validate::ValidatedRequest},
    upstream::balance_key::BalanceKey,
};
use ::http::request::Parts;
use std::net::IpAddr;

/// A request that its route admits, and what a backend receives.
pub(crate) struct AdmittedRequest<'g, 'p> {
    pub(crate) parts: &'p Parts,
    pub(crate) validated: ValidatedRequest<'p>,
    pub(crate) route: &'g Route,
    pub(crate) outbound: Outbound,
}

// === impl AdmittedRequest ===

impl AdmittedRequest<'_, '_> {
    /// Returns the key by which the pool selects a backend for `client`.
    pub(crate) fn balance_key(&self, client: IpAddr) -> BalanceKey {
        let (path, query) = (self.validated.path.as_str(), self.parts.uri.query());
        self.route
            .pool
            .key(&self.parts.headers, path, query, client)
    }
}
