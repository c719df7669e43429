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
    let ends = ConnAddrs {
        client: (peer.address, peer.port).into(),
        local: peer.reached,
    };
    Ok(match (lease.dial(resolver, ends).await?, lease.tls()) {
        (DialedStream::Unix(unix), _) => BackendStream::Unix(Socket::new(unix)),
        (DialedStream::Tcp(tcp), None) => BackendStream::Tcp(Socket::new(tcp)),
        (DialedStream::Tcp(tcp), Some(tls)) => {
            // Boxed: the handshake's state is large, and most backends have none.
            let shaken = Box::pin(tls.connect_tls(Socket::new(tcp))).await?;
            BackendStream::Tls(Box::new(shaken))
        }
    })
}
