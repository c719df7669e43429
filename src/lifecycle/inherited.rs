//! Inherited sockets: from the process that this one takes over from, or from systemd (`LISTEN_FDS`, sd_listen_fds(3)).

use crate::lifecycle::handover::{self, FdLabel, HandoverError, Predecessor};
use listenfd::ListenFd;
use rustix::net::sockopt;
use std::{
    io,
    net::TcpListener,
    os::{fd::OwnedFd, unix::net::UnixListener},
};

/// Inherited descriptors that no listener has taken yet.
#[derive(Debug, Default)]
pub struct Inherited {
    taken_over: Vec<(FdLabel, OwnedFd)>,
    /// With the address to which each socket is bound.
    from_systemd: Vec<(String, OwnedFd)>,
    predecessor: Option<Predecessor>,
}

// === impl Inherited ===

impl Inherited {
    /// Returns the sockets that systemd has opened for this process. Reads the environment once and clears it: must be
    /// called before another thread starts.
    ///
    /// # Errors
    /// If one of them is not a listening stream socket.
    pub fn from_systemd() -> io::Result<Inherited> {
        let mut passed = ListenFd::from_env();
        let mut inherited = Inherited::default();
        for index in 0..passed.len() {
            let socket = match passed.take_tcp_listener(index) {
                Ok(Some(tcp)) => (tcp.local_addr()?.to_string(), OwnedFd::from(tcp)),
                _ => match passed.take_unix_listener(index) {
                    Ok(Some(unix)) => (unix_address(&unix)?, unix.into()),
                    _ => return Err(not_listening(index)),
                },
            };
            if !sockopt::socket_acceptconn(&socket.1)? {
                return Err(not_listening(index));
            }
            inherited.from_systemd.push(socket);
        }
        Ok(inherited)
    }

    /// Receives the descriptors of the process with this offer (see `handover`).
    pub async fn take_over(&mut self, name: &str) -> Result<(), HandoverError> {
        let (descriptors, predecessor) = handover::take_over(name).await?;
        self.taken_over = descriptors
            .into_iter()
            .map(|it| (it.label, it.descriptor))
            .collect();
        self.predecessor = Some(predecessor);
        Ok(())
    }

    /// Removes and returns the descriptor for this kind and configured address, if one was inherited.
    pub fn take(&mut self, kind: &str, address: &str) -> Option<OwnedFd> {
        let matches = |(label, _): &(FdLabel, _)| label.kind == kind && label.address == address;
        if let Some(index) = self.taken_over.iter().position(matches) {
            return Some(self.taken_over.swap_remove(index).1);
        }
        let index = self.from_systemd.iter().position(|it| it.0 == address)?;
        Some(self.from_systemd.swap_remove(index).1)
    }

    /// Removes and returns the TCP listener for this kind and configured address, if one was inherited.
    pub fn take_tcp(&mut self, kind: &str, address: &str) -> Option<TcpListener> {
        self.take(kind, address).map(TcpListener::from)
    }

    /// Returns the address of a systemd socket that no listener has taken.
    pub fn unclaimed(&self) -> Option<&str> {
        self.from_systemd.first().map(|(address, _)| &**address)
    }

    /// Returns whether this process takes over from a running one.
    pub fn is_takeover(&self) -> bool {
        self.predecessor.is_some()
    }

    /// Waits until the predecessor, if there is one, permits this process to serve. Closes the descriptors that were
    /// not taken.
    pub async fn ready(self) -> Result<Option<Predecessor>, HandoverError> {
        if let Some(predecessor) = &self.predecessor {
            predecessor.ready().await?;
        }
        Ok(self.predecessor)
    }
}

fn not_listening(index: usize) -> io::Error {
    let number = index + 1;
    let why = format!(
        "socket {number} from systemd is not a listening stream socket: the .socket unit needs ListenStream= and must not \
         have Accept=yes"
    );
    io::Error::new(io::ErrorKind::InvalidInput, why)
}

/// Returns the address in the form of `server.admin`.
fn unix_address(listener: &UnixListener) -> io::Result<String> {
    let address = listener.local_addr()?;
    let path = address.as_pathname().ok_or_else(|| {
        io::Error::new(io::ErrorKind::InvalidInput, "a Unix socket without a path")
    })?;
    Ok(format!("unix:{}", path.display()))
}
