//! The way to a backend, up to where HTTP begins.

use super::Peer;
use crate::{
    splice::{Socket, Stream},
    upstream::{Connection, DialError, Ends, Lease, Resolver},
};

/// Dials the lease's backend, on behalf of `peer`. The caller sets the deadline.
pub(super) async fn reach(
    resolver: &Resolver,
    lease: &Lease,
    peer: &Peer,
) -> Result<Stream, DialError> {
    let ends = Ends {
        client: (peer.address, peer.port).into(),
        reached: peer.reached,
    };
    Ok(match (lease.dial(resolver, ends).await?, lease.tls()) {
        (Connection::Unix(unix), _) => Stream::Unix(Socket::new(unix)),
        (Connection::Tcp(tcp), None) => Stream::Tcp(Socket::new(tcp)),
        (Connection::Tcp(tcp), Some(tls)) => {
            // Boxed: the handshake's state is large, and most backends have none.
            let shaken = Box::pin(tls.secure(Socket::new(tcp))).await?;
            Stream::Tls(Box::new(shaken))
        }
    })
}
