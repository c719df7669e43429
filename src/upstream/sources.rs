//! Source addresses of connections to a backend: one address provides some 28,000 ports towards one backend, so more
//! connections need more addresses.

use nix::sys::socket::{setsockopt, sockopt::IpBindAddressNoPort};
use std::{
    io,
    net::{IpAddr, SocketAddr},
    sync::atomic::{AtomicUsize, Ordering},
};
use tokio::net::{TcpSocket, TcpStream};

/// Addresses of this machine, used in rotation; empty: the operating system chooses.
#[derive(Debug, Default)]
pub struct SourceAddrs {
    addresses: Vec<IpAddr>,
    next: AtomicUsize,
}

/// Why a connection could not be made.
#[derive(Debug)]
pub(super) enum SourceError {
    /// The source address cannot be used.
    NotLocal {
        from: IpAddr,
        source: io::Error,
    },
    Io(io::Error),
}

impl From<io::Error> for SourceError {
    fn from(error: io::Error) -> Self {
        SourceError::Io(error)
    }
}

// === impl SourceAddrs ===

impl SourceAddrs {
    /// Creates the list, in this order.
    pub fn new(addresses: &[IpAddr]) -> Self {
        SourceAddrs {
            addresses: addresses.to_vec(),
            next: AtomicUsize::new(0),
        }
    }

    /// Connects from the next address, or from another of the same family if that has no port left.
    pub(super) async fn connect(&self, to: SocketAddr) -> Result<TcpStream, SourceError> {
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
