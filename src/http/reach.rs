//! Connects to a backend, up to the point where HTTP begins.

use super::Peer;
use crate::{
    splice::{BackendStream, Socket},
    upstream::{ConnAddrs, DialError, DialedStream, Lease, Resolver},
};

/// Dials the lease's backend, on behalf of `peer`. The caller sets the deadline.
pub(super) async fn connect_backend(
    resolver: &Resolver,
    lease: &Lease,
    peer: &Peer,
) -> Result<BackendStream, DialError> {
    let addrs = ConnAddrs {
        client: (peer.address, peer.port).into(),
        local: peer.local,
    };
    Ok(match (lease.dial(resolver, addrs).await?, lease.tls()) {
        (DialedStream::Unix(unix), _) => BackendStream::Unix(Socket::new(unix)),
        (DialedStream::Tcp(tcp), None) => BackendStream::Tcp(Socket::new(tcp)),
        (DialedStream::Tcp(tcp), Some(tls)) => {
            // Boxed: the state of the TLS handshake is large, and most backends do not use TLS.
            let stream = Box::pin(tls.connect_tls(Socket::new(tcp))).await?;
            BackendStream::Tls(Box::new(stream))
        }
    })
}
