//! Connecting to a backend: resolves its name, connects to one of its addresses from one of this machine's, and sends
//! what precedes TLS and HTTP.

use crate::{
    net::{
        descriptors::is_exhaustion,
        happy_eyeballs::{AddressHistory, AttemptPermits, connect_first},
        resolver::{QueryError, ResolveError, Resolver},
    },
    proto::proxy_header,
};
use nix::sys::socket::{setsockopt, sockopt::IpBindAddressNoPort};
use std::{
    io,
    net::{IpAddr, SocketAddr},
    path::{Path, PathBuf},
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};
use tokio::{
    io::AsyncWriteExt,
    net::{TcpSocket, TcpStream, UnixStream},
    time::timeout,
};

/// The address of a backend.
#[derive(Debug, Clone, Copy)]
pub(crate) enum DialAddress<'a> {
    /// A host and a port.
    Tcp {
        /// The name or IP address; IPv6 without brackets.
        host: &'a str,
        port: u16,
    },
    /// The path of a Unix socket.
    Unix(&'a Path),
}

/// How a connection is made.
#[derive(Debug, Clone, Copy)]
pub(crate) struct DialOptions<'a> {
    pub(crate) resolver: &'a Resolver,
    pub(crate) sources: &'a SourceAddrs,
    /// The addresses that did not answer a short time ago.
    pub(crate) history: &'a AddressHistory,
    /// The permits of attempts beyond the first one.
    pub(crate) permits: AttemptPermits<'a>,
    /// The time limit of each address.
    pub(crate) connect_timeout: Duration,
}

/// A connection to a backend, before TLS.
#[derive(Debug)]
pub(crate) enum DialedStream {
    /// Over TCP.
    Tcp(TcpStream),
    /// Over a Unix socket.
    Unix(UnixStream),
}

/// The two addresses of a client's connection, as a PROXY header carries them.
#[derive(Debug, Clone, Copy)]
pub(crate) struct ConnAddrs {
    /// The client's address.
    pub client: SocketAddr,
    /// The address on which Lockgate accepted the connection.
    pub local: SocketAddr,
}

/// Why a connection to a backend could not be made.
#[derive(Debug, thiserror::Error)]
pub(crate) enum DialError {
    /// The budget of file descriptors is used up.
    #[error(
        "no file descriptor is left for a connection to a backend: raise LimitNOFILE (systemd) or ulimit -n"
    )]
    NoDescriptor,
    /// The name has no address.
    #[error(
        "cannot find an address for `{name}`: is the name right, and does this machine know it?"
    )]
    Resolve {
        /// The name that was resolved.
        name: String,
        /// The resolver's error.
        #[source]
        source: ResolveError,
    },
    /// An address did not answer in time, and no other accepted the connection.
    #[error(
        "no answer from {address} within {after:?} (connect_timeout): is the machine up, and does no firewall drop the packets?"
    )]
    Timeout {
        /// The address.
        address: SocketAddr,
        /// The time limit of the address.
        after: Duration,
    },
    /// The time limit of the dial has passed, including the lookup of the name and all addresses.
    #[error("no connection within {after:?}, with the lookup of its name and all addresses")]
    Late {
        /// The time limit.
        after: Duration,
    },
    /// No address accepted the connection; the error is that of the last one.
    #[error(
        "cannot connect to {address}: is the backend running, and listening on that address and port?"
    )]
    Connect {
        /// The last address tried.
        address: SocketAddr,
        /// The operating system's error.
        #[source]
        source: io::Error,
    },
    /// All local ports are in use for connections to this address.
    #[error(
        "no local port is left for another connection to {address}: name more addresses of this machine in `sources`, or widen \
         net.ipv4.ip_local_port_range"
    )]
    NoPort {
        /// The last address tried.
        address: SocketAddr,
        /// The operating system's error.
        #[source]
        source: io::Error,
    },
    /// An address in `sources` does not belong to this machine.
    #[error(
        "cannot connect from {from}: is that address in `sources` one of this machine? `ip address` shows them"
    )]
    SourceNotLocal {
        /// The address in `sources`.
        from: IpAddr,
        /// The operating system's error.
        #[source]
        source: io::Error,
    },
    /// The Unix socket did not accept the connection.
    #[error(
        "cannot connect to {}: is the backend running, and may this user write to its socket?",
        .path.display()
    )]
    Socket {
        /// The path of the Unix socket.
        path: PathBuf,
        /// The operating system's error.
        #[source]
        source: io::Error,
    },
    /// The backend closed the connection while the PROXY header was sent.
    #[error("the backend closed the connection while the PROXY header was being sent")]
    ProxyHeader(#[source] io::Error),
    /// The TLS handshake failed; most often the backend's certificate is not trusted.
    #[error(
        "TLS with the backend, as `{name}`, failed: is its certificate for that name, and of a CA in tls.ca?"
    )]
    Tls {
        /// The name in SNI.
        name: String,
        /// The error of the handshake.
        #[source]
        source: io::Error,
    },
    /// The TLS handshake was not complete in time.
    #[error(
        "no TLS handshake with the backend, as `{name}`, within {after:?}: is that port a TLS port?"
    )]
    TlsTimeout {
        /// The name in SNI.
        name: String,
        /// The time limit of the handshake.
        after: Duration,
    },
}

/// Connects to the first address that accepts ([`connect_first`]), from one of the source addresses. The caller limits
/// the whole time: each address has a limit, the lookup of the name has none.
pub(crate) async fn dial(
    address: DialAddress<'_>,
    options: DialOptions<'_>,
) -> Result<DialedStream, DialError> {
    match address {
        DialAddress::Tcp { host, port } => {
            let dialled = tcp(host, port, options).await;
            dialled.map(DialedStream::Tcp)
        }
        DialAddress::Unix(path) => unix(path).await.map(DialedStream::Unix),
    }
}

/// Connects to the first address of `host` that accepts; see [`dial`].
pub(crate) async fn tcp(
    host: &str,
    port: u16,
    options: DialOptions<'_>,
) -> Result<TcpStream, DialError> {
    let unresolved = |source| DialError::Resolve {
        name: host.to_owned(),
        source,
    };
    let found = options.resolver.lookup(host).await.map_err(unresolved)?;
    let addresses = found.into_iter().map(|ip| SocketAddr::new(ip, port));
    let connected = connect_first(
        addresses.collect(),
        options.permits,
        options.history,
        |to| connect_to(to, options.sources, options.connect_timeout),
    );
    let stream = connected.await.map_err(|last| {
        let empty = QueryError::Empty("the answer has no address");
        last.unwrap_or_else(|| unresolved(options.resolver.unknown(empty)))
    })?;
    // Frames are small and answered one by one: Nagle's algorithm would delay every second one.
    let _ = stream.set_nodelay(true);
    Ok(stream)
}

/// Connects to one address, within `limit`.
async fn connect_to(
    address: SocketAddr,
    sources: &SourceAddrs,
    limit: Duration,
) -> Result<TcpStream, DialError> {
    let connected = timeout(limit, sources.connect(address)).await;
    let connected = connected.map_err(|_| DialError::Timeout {
        address,
        after: limit,
    })?;
    connected.map_err(|error| match error {
        SourceError::NotLocal { from, source } => DialError::SourceNotLocal { from, source },
        // The kernel picks any port that is free towards this address, and there is none.
        SourceError::Io(source) if source.kind() == io::ErrorKind::AddrNotAvailable => {
            DialError::NoPort { address, source }
        }
        SourceError::Io(source) => DialError::Connect { address, source },
    })
}

async fn unix(path: &Path) -> Result<UnixStream, DialError> {
    let failed = |source| DialError::Socket {
        path: path.to_owned(),
        source,
    };
    UnixStream::connect(path).await.map_err(failed)
}

// === impl DialError ===

impl DialError {
    /// Returns whether the cause is exhausted resources of this process or machine, not the backend.
    pub(crate) fn is_exhaustion(&self) -> bool {
        match self {
            DialError::NoDescriptor => true,
            DialError::Connect { source, .. }
            | DialError::SourceNotLocal { source, .. }
            | DialError::Socket { source, .. } => is_exhaustion(source),
            _ => false,
        }
    }

    /// Returns whether nothing answered in time, as opposed to a refusal or another error.
    pub(crate) fn is_timeout(&self) -> bool {
        match self {
            DialError::Timeout { .. } | DialError::Late { .. } | DialError::TlsTimeout { .. } => {
                true
            }
            // The kernel gives up earlier if the host does not answer ARP or NDP.
            DialError::Connect { source, .. } => matches!(
                source.kind(),
                io::ErrorKind::TimedOut | io::ErrorKind::HostUnreachable
            ),
            _ => false,
        }
    }
}

// === impl DialedStream ===

impl DialedStream {
    /// Writes the PROXY header: with the client's addresses, or as `LOCAL` without `addrs`. It precedes all other
    /// bytes, also TLS.
    pub(crate) async fn write_proxy_header(
        &mut self,
        version: proxy_header::ProxyVersion,
        addrs: Option<ConnAddrs>,
    ) -> Result<(), DialError> {
        let header = match addrs {
            Some(addrs) => proxy_header::header(version, addrs.client, addrs.local),
            None => proxy_header::own_header(version).to_vec(),
        };
        let written = match self {
            DialedStream::Tcp(tcp) => tcp.write_all(&header).await,
            DialedStream::Unix(unix) => unix.write_all(&header).await,
        };
        written.map_err(DialError::ProxyHeader)
    }
}

/// Addresses of this machine, used in rotation; empty: the operating system chooses. One address provides some 28,000
/// ports towards one backend, so more connections need more addresses.
#[derive(Debug, Default)]
pub(crate) struct SourceAddrs {
    addresses: Arc<[IpAddr]>,
    next: AtomicUsize,
}

/// Why a connection could not be made.
#[derive(Debug)]
enum SourceError {
    /// The source address cannot be used.
    NotLocal {
        from: IpAddr,
        source: io::Error,
    },
    Io(io::Error),
}

// === impl SourceAddrs ===

impl SourceAddrs {
    /// Creates the list, in this order.
    pub(crate) fn new(addresses: &[IpAddr]) -> Self {
        SourceAddrs {
            addresses: addresses.into(),
            next: AtomicUsize::new(0),
        }
    }

    /// Returns the addresses, in this order.
    pub(crate) fn addresses(&self) -> &Arc<[IpAddr]> {
        &self.addresses
    }

    /// Connects from the next address, or from another of the same family if that has no port left.
    async fn connect(&self, to: SocketAddr) -> Result<TcpStream, SourceError> {
        let fits = |from: &&IpAddr| from.is_ipv4() == to.is_ipv4();
        let fitting: Vec<IpAddr> = self.addresses.iter().filter(fits).copied().collect();
        if fitting.is_empty() {
            return Ok(TcpStream::connect(to).await?);
        }
        let start = self.next.fetch_add(1, Ordering::Relaxed) % fitting.len();
        let (wrapped, remaining) = fitting.split_at(start);
        let mut last = SourceError::Io(io::ErrorKind::AddrNotAvailable.into());
        for from in remaining.iter().chain(wrapped) {
            match connect_from(*from, to).await {
                Err(error) if error.is_unavailable() => last = error,
                done => return done,
            }
        }
        Err(last)
    }
}

// === impl SourceError ===

impl SourceError {
    /// Returns whether another source address may succeed.
    fn is_unavailable(&self) -> bool {
        match self {
            SourceError::NotLocal { .. } => true,
            SourceError::Io(error) => error.kind() == io::ErrorKind::AddrNotAvailable,
        }
    }
}

impl From<io::Error> for SourceError {
    fn from(error: io::Error) -> Self {
        SourceError::Io(error)
    }
}

async fn connect_from(from: IpAddr, to: SocketAddr) -> Result<TcpStream, SourceError> {
    let socket = match to {
        SocketAddr::V4(_) => TcpSocket::new_v4(),
        SocketAddr::V6(_) => TcpSocket::new_v6(),
    }?;
    // The port is chosen at connect, so ports can be shared by connections to different backends: see ip(7).
    setsockopt(&socket, IpBindAddressNoPort, &true).map_err(io::Error::from)?;
    // A bind without a port cannot fail for lack of ports.
    let bound = socket.bind((from, 0).into());
    bound.map_err(|source| match source.kind() {
        io::ErrorKind::AddrNotAvailable => SourceError::NotLocal { from, source },
        _ => SourceError::Io(source),
    })?;
    Ok(socket.connect(to).await?)
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::net::TcpListener;

    #[tokio::test]
    async fn sources_rotate_and_share_ports() {
        let listeners = [
            TcpListener::bind("127.0.0.1:0").await.unwrap(),
            TcpListener::bind("127.0.0.1:0").await.unwrap(),
        ];
        let from = ["127.0.0.2", "::1", "127.0.0.3"].map(|from| from.parse().unwrap());
        let sources = SourceAddrs::new(&from);
        let mut seen = Vec::new();
        for _ in 0..2 {
            for listener in &listeners {
                let to = listener.local_addr().unwrap();
                let _from = sources.connect(to).await.unwrap();
                let (_, from) = listener.accept().await.unwrap();
                seen.push(from.ip().to_string());
            }
        }
        assert_eq!(seen, ["127.0.0.2", "127.0.0.3", "127.0.0.2", "127.0.0.3"]);
        let foreign = SourceAddrs::new(&["192.0.2.1".parse().unwrap()]);
        let to = listeners[0].local_addr().unwrap();
        let error = foreign.connect(to).await.unwrap_err();
        assert!(
            matches!(error, SourceError::NotLocal { from, .. } if from == foreign.addresses[0])
        );
    }
}
