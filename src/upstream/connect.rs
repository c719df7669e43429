//! The dial: name to addresses, addresses to a TCP stream.

use crate::config::BackendAddress;
use std::{io, net::SocketAddr};
use tokio::net::{TcpStream, lookup_host};

/// Why no backend was reached.
#[derive(Debug, thiserror::Error)]
pub enum DialError {
    /// The name has no address.
    #[error(
        "cannot find an address for `{name}`: is the name right, and does this machine's resolver know it?"
    )]
    Resolve {
        /// The name.
        name: String,
        /// What the resolver said.
        #[source]
        source: io::Error,
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
pub async fn dial(address: &BackendAddress) -> Result<TcpStream, DialError> {
    let unresolved = |source| DialError::Resolve {
        name: address.host.to_string(),
        source,
    };
    let candidates = lookup_host((&*address.host, address.port))
        .await
        .map_err(unresolved)?;
    let mut last = unresolved(io::Error::new(
        io::ErrorKind::NotFound,
        "the answer was empty",
    ));
    for candidate in candidates {
        match TcpStream::connect(candidate).await {
            Ok(stream) => {
                // Frames are small and answered one by one: Nagle's algorithm would hold each second one back.
                let _ = stream.set_nodelay(true);
                return Ok(stream);
            }
            Err(source) => {
                last = DialError::Connect {
                    address: candidate,
                    source,
                }
            }
        }
    }
    Err(last)
}
