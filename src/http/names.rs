//! Name resolution of backends for the plain HTTP client.

use crate::upstream::{ResolveError, Resolver};
use hyper_util::client::legacy::connect::dns::Name;
use std::{
    net::{IpAddr, SocketAddr},
    pin::Pin,
    task::{self, Poll},
    vec,
};
use tower_service::Service;

/// Resolves names in the same way as the dial of a handshake.
#[derive(Debug, Clone)]
pub(super) struct DnsConnectorResolver(pub(super) Resolver);

/// Addresses in the form that the client requires; the client sets the port itself.
pub(super) struct ResolvedAddrs(vec::IntoIter<IpAddr>);

// === impl DnsConnectorResolver ===

impl Service<Name> for DnsConnectorResolver {
    type Response = ResolvedAddrs;
    type Error = ResolveError;
    type Future = Pin<Box<dyn Future<Output = Result<ResolvedAddrs, ResolveError>> + Send>>;

    fn poll_ready(&mut self, _: &mut task::Context<'_>) -> Poll<Result<(), ResolveError>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, name: Name) -> Self::Future {
        let resolver = self.0.clone();
        Box::pin(async move {
            Ok(ResolvedAddrs(
                resolver.lookup(name.as_str()).await?.into_iter(),
            ))
        })
    }
}

// === impl ResolvedAddrs ===

impl Iterator for ResolvedAddrs {
    type Item = SocketAddr;

    fn next(&mut self) -> Option<SocketAddr> {
        self.0.next().map(|address| SocketAddr::new(address, 0))
    }
}
