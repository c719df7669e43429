//! The dial: name to addresses, addresses to a connection, and what is said on it before HTTP.

use super::{ResolveError, Resolver, SourceAddrs, sources::SourceError};
use crate::{config::BackendAddress, proto::proxy};
use std::{
    io,
    net::{IpAddr, SocketAddr},
    path::{Path, PathBuf},
};
use tokio::{
    io::AsyncWriteExt,
    net::{TcpStream, UnixStream},
};

/// A connection to a backend, before TLS.
#[derive(Debug)]
pub enum DialedStream {
    /// To a port.
    Tcp(TcpStream),
    /// To a Unix socket.
    Unix(UnixStream),
}

/// The two ends of a client's connection, as a PROXY header tells of them.
#[derive(Debug, Clone, Copy)]
pub struct ConnAddrs {
    /// The client's.
    pub client: SocketAddr,
    /// Ours.
    pub local: SocketAddr,
}

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
    /// As many connections lead there as there are local ports.
    #[error(
        "no local port is left for another connection to {address}: name more addresses of this machine in `sources`, or widen \
         net.ipv4.ip_local_port_range"
    )]
    NoPort {
        /// The last address tried.
        address: SocketAddr,
        /// What the kernel said.
        #[source]
        source: io::Error,
    },
    /// `sources` names it, and it is nowhere here.
    #[error(
        "cannot come from {from}: is that address in `sources` one of this machine? `ip address` shows them"
    )]
    SourceNotLocal {
        /// The address.
        from: IpAddr,
        /// What the kernel said.
        #[source]
        source: io::Error,
    },
    /// The socket took no connection.
    #[error(
        "cannot connect to {}: is the backend running, and may this user write to its socket?",
        .path.display()
    )]
    Socket {
        /// The socket.
        path: PathBuf,
        /// What the kernel said.
        #[source]
        source: io::Error,
    },
    /// It hung up on the PROXY header.
    #[error("the connection broke before the PROXY header was through")]
    ProxyHeader(#[source] io::Error),
    /// TLS was not agreed on; most often its certificate is not believed.
    #[error(
        "TLS with the backend, as `{name}`, failed: is its certificate for that name, and of a CA in tls.ca?"
    )]
    Tls {
        /// The name that was asked for.
        name: String,
        /// What is wrong.
        #[source]
        source: io::Error,
    },
}

/// Connects to the first address that answers, in the resolver's order, from one of `sources`. The caller sets the deadline.
pub async fn dial(
    resolver: &Resolver,
    address: &BackendAddress,
    sources: &SourceAddrs,
) -> Result<DialedStream, DialError> {
    match address {
        BackendAddress::Tcp { host, port, .. } => {
            let dialled = tcp(resolver, host, *port, sources).await;
            dialled.map(DialedStream::Tcp)
        }
        BackendAddress::Unix(path) => unix(path).await.map(DialedStream::Unix),
    }
}

async fn tcp(
    resolver: &Resolver,
    host: &str,
    port: u16,
    sources: &SourceAddrs,
) -> Result<TcpStream, DialError> {
    let unresolved = |source| DialError::Resolve {
        name: host.to_owned(),
        source,
    };
    let candidates = resolver.lookup(host).await.map_err(unresolved)?;
    let mut last = None;
    for candidate in candidates {
        let candidate = SocketAddr::new(candidate, port);
        match sources.connect(candidate).await {
            Ok(stream) => {
                // Frames are small and answered one by one: Nagle's algorithm would hold each second one back.
                let _ = stream.set_nodelay(true);
                return Ok(stream);
            }
            Err(source) => last = Some((candidate, source)),
        }
    }
    let (address, source) = last.expect("there is at least one candidate");
    Err(match source {
        SourceError::NotOurs { from, source } => DialError::SourceNotLocal { from, source },
        // It gets any port that is free towards this address: none is.
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

// === impl DialedStream ===

impl DialedStream {
    /// Tells whose connection this is: without `ends`, our own. It goes before everything else, TLS too.
    pub(super) async fn write_proxy_header(
        &mut self,
        version: proxy::ProxyVersion,
        ends: Option<ConnAddrs>,
    ) -> Result<(), DialError> {
        let header = match ends {
            Some(ends) => proxy::header(version, ends.client, ends.local),
            None => proxy::own_header(version).to_vec(),
        };
        let told = match self {
            DialedStream::Tcp(tcp) => tcp.write_all(&header).await,
            DialedStream::Unix(unix) => unix.write_all(&header).await,
        };
        told.map_err(DialError::ProxyHeader)
    }
}
