//! Listeners as they are wanted: bound before anything else changes, started and closed with the rest.

use super::bind::{StartError, bind_one};
use crate::{
    config::{ListenAddress, Located, Server},
    lifecycle::{Inherited, ListenerStatus, Tasks},
    listener::{self, ConnectionHandler, ConnectionPermit},
    observe::Metrics,
};
use std::{
    net::SocketAddr,
    os::fd::{AsFd, BorrowedFd},
    sync::{
        Arc,
        atomic::{AtomicU16, Ordering},
    },
};
use tokio::net::{TcpListener, TcpStream};
use tokio_util::sync::CancellationToken;

/// What a listener speaks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum ListenerKind {
    Https,
    Http,
}

/// A bound socket, by the address as it was written.
#[derive(Debug)]
pub(super) struct BoundListener {
    kind: ListenerKind,
    written: SocketAddr,
    /// With its real port.
    address: SocketAddr,
    socket: Arc<TcpListener>,
    started: bool,
    gone: CancellationToken,
}

// === impl BoundListener ===

impl BoundListener {
    /// Binds what `server` wants, `held` has not and `inherited` has not either; the first that fails ends it, and nothing has changed.
    pub(super) fn bind_missing(
        server: &Server,
        held: &[BoundListener],
        inherited: &mut Inherited,
    ) -> Result<Vec<BoundListener>, StartError> {
        let wanted = wanted(server);
        let missing = wanted.filter(|(kind, address)| !held.iter().any(|it| it.is(*kind, address)));
        let bound = missing.map(|(kind, address)| {
            let socket = bind_one(kind.as_str(), address, inherited)?;
            let written = address.value.0;
            Ok(BoundListener {
                kind,
                written,
                address: socket.local_addr().unwrap_or(written),
                socket: Arc::new(socket),
                started: false,
                gone: CancellationToken::new(),
            })
        });
        bound.collect()
    }

    /// Whether `server` still wants it.
    pub(super) fn is_configured(&self, server: &Server) -> bool {
        wanted(server).any(|(kind, address)| self.is(kind, address))
    }

    pub(super) fn is_https(&self) -> bool {
        self.kind == ListenerKind::Https
    }

    pub(super) fn address(&self) -> SocketAddr {
        self.address
    }

    /// As the configuration has it.
    pub(super) fn written(&self) -> (&'static str, String) {
        (self.kind.as_str(), self.written.to_string())
    }

    pub(super) fn socket(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }

    /// Accepts from here on, until [`BoundListener::close`] or the stop.
    pub(super) fn start(
        &mut self,
        doorway: &Arc<ConnectionHandler>,
        metrics: &Arc<Metrics>,
        tasks: &Tasks,
        https_port: &Arc<AtomicU16>,
    ) {
        if std::mem::replace(&mut self.started, true) {
            return;
        }
        let socket = self.socket.clone();
        let admission = doorway.admission.clone();
        let (doorway, metrics, gone) = (doorway.clone(), metrics.clone(), self.gone.clone());
        let accepted = tasks.clone();
        match self.kind {
            ListenerKind::Https => {
                let serve = move |tcp: TcpStream, from: SocketAddr, permit: ConnectionPermit| {
                    doorway.clone().serve_tls(tcp, from, permit)
                };
                tasks.spawn(listener::accept(
                    socket, admission, metrics, accepted, gone, serve,
                ));
            }
            ListenerKind::Http => {
                let https_port = https_port.clone();
                let serve = move |tcp: TcpStream, from: SocketAddr, permit: ConnectionPermit| {
                    let https_port = https_port.load(Ordering::Relaxed);
                    doorway.clone().serve_plain(tcp, from, permit, https_port)
                };
                tasks.spawn(listener::accept(
                    socket, admission, metrics, accepted, gone, serve,
                ));
            }
        }
    }

    /// Stops accepting; what was accepted stays.
    pub(super) fn close(&self) {
        self.gone.cancel();
    }

    pub(super) fn status(&self) -> ListenerStatus {
        ListenerStatus {
            kind: self.kind.as_str(),
            address: self.address.to_string(),
        }
    }

    fn is(&self, kind: ListenerKind, address: &Located<ListenAddress>) -> bool {
        self.kind == kind && self.written == address.value.0
    }
}

// === impl ListenerKind ===

impl ListenerKind {
    fn as_str(self) -> &'static str {
        match self {
            ListenerKind::Https => "https",
            ListenerKind::Http => "http",
        }
    }
}

fn wanted(server: &Server) -> impl Iterator<Item = (ListenerKind, &Located<ListenAddress>)> {
    let https = server
        .https
        .iter()
        .map(|address| (ListenerKind::Https, address));
    let http = server
        .http
        .iter()
        .map(|address| (ListenerKind::Http, address));
    https.chain(http)
}
