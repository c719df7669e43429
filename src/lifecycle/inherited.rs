//! Sockets that somebody else has opened: the process whose place is taken, or systemd (`LISTEN_FDS`, sd_listen_fds(3)).

use super::handover::{self, FdLabel, HandoverError, Predecessor};
use listenfd::ListenFd;
use rustix::net::sockopt;
use std::{
    io,
    net::TcpListener,
    os::{fd::OwnedFd, unix::net::UnixListener},
};

/// Descriptors that wait for the one who knows what they are for.
#[derive(Debug, Default)]
pub struct Inherited {
    taken_over: Vec<(FdLabel, OwnedFd)>,
    /// By the address that each is bound to.
    from_systemd: Vec<(String, OwnedFd)>,
    predecessor: Option<Predecessor>,
}

// === impl Inherited ===

impl Inherited {
    /// What systemd has opened for this process. The environment is read once and cleared: call it before there is a thread.
    ///
    /// # Errors
    /// When one of them is no listening stream socket.
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

    /// What the process behind this offer gives (see [`handover`]).
    pub async fn take_over(&mut self, name: &str) -> Result<(), HandoverError> {
        let (given, predecessor) = handover::take_over(name).await?;
        self.taken_over = given
            .into_iter()
            .map(|it| (it.label, it.descriptor))
            .collect();
        self.predecessor = Some(predecessor);
        Ok(())
    }

    /// The one that was opened for this, if it was.
    pub fn take(&mut self, kind: &str, address: &str) -> Option<OwnedFd> {
        let ours = |(label, _): &(FdLabel, _)| label.kind == kind && label.address == address;
        if let Some(found) = self.taken_over.iter().position(ours) {
            return Some(self.taken_over.swap_remove(found).1);
        }
        let found = self.from_systemd.iter().position(|it| it.0 == address)?;
        Some(self.from_systemd.swap_remove(found).1)
    }

    /// As [`Inherited::take`], as a TCP listener.
    pub fn take_tcp(&mut self, kind: &str, address: &str) -> Option<TcpListener> {
        self.take(kind, address).map(TcpListener::from)
    }

    /// Returns the address of a systemd socket that no listener has taken.
    pub fn unclaimed(&self) -> Option<&str> {
        self.from_systemd.first().map(|(address, _)| &**address)
    }

    /// Whether a running process gave what there is.
    pub fn is_takeover(&self) -> bool {
        self.predecessor.is_some()
    }

    /// Waits for leave to serve, where there is a process to give it. What nobody took is closed.
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
        "socket {number} that systemd passes on does not listen for a stream: the .socket unit needs ListenStream=, and no \
         Accept=yes"
    );
    io::Error::new(io::ErrorKind::InvalidInput, why)
}

/// As `server.admin` is written.
fn unix_address(listener: &UnixListener) -> io::Result<String> {
    let address = listener.local_addr()?;
    let path = address.as_pathname().ok_or_else(|| {
        io::Error::new(io::ErrorKind::InvalidInput, "a Unix socket without a path")
    })?;
    Ok(format!("unix:{}", path.display()))
}
