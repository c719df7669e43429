//! The dial: name to addresses, addresses to a TCP stream.

use super::{ResolveError, Resolver};
use crate::config::BackendAddress;
use std::{io, net::SocketAddr};
use tokio::net::TcpStream;

/// Why no backend was reached.
#[derive(Debug, thiserror::Error)]
pub enum DialError {
    /// The name has no address.
    #[error(
        "cannot find an address for `{name}`: is the name right, and does this machine know it?"
    )]
    Resolve {
        /// The name.
        name: String,
        /// What the resolver said.
        #[source]
        source: ResolveError,
    },
    /// No address took the connection; the last one's answer.
    #[error(
        "cannot connect to {address}: is the backend running, and listening on that address and port?"
    )]
    Connect {
        /// The last address tried.
        address: SocketAddr,
        /// What the kernel said.
        #[source]
        source: io::Error,
    },
}

/// Connects to the first address that answers, in the resolver's order. The caller sets the deadline.
pub async fn dial(resolver: &Resolver, address: &BackendAddress) -> Result<TcpStream, DialError> {
    let unresolved = |source| DialError::Resolve {
        name: address.host.to_string(),
        source,
    };
    let candidates = resolver.lookup(&address.host).await.map_err(unresolved)?;
    let mut last = None;
    for candidate in candidates {
        let candidate = SocketAddr::new(candidate, address.port);
        match TcpStream::connect(candidate).await {
            Ok(stream) => {
                // Frames are small and answered one by one: Nagle's algorithm would hold each second one back.
                let _ = stream.set_nodelay(true);
                return Ok(stream);
            }
            Err(source) => last = Some((candidate, source)),
        }
    }
    let (address, source) = last.expect("there is at least one candidate");
    Err(DialError::Connect { address, source })
}
