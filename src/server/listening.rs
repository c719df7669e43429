//! The https and http listeners: a reload binds added ones before it changes anything else.

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

/// The protocol of a listener.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum ListenerKind {
    Https,
    Http,
}

/// A bound socket, identified by its kind and configured address.
#[derive(Debug)]
pub(super) struct BoundListener {
    kind: ListenerKind,
    configured: SocketAddr,
    /// The address with the actual port.
    address: SocketAddr,
    socket: Arc<TcpListener>,
    started: bool,
    closed: CancellationToken,
}

// === impl BoundListener ===

impl BoundListener {
    /// Binds every configured address that is neither in `existing` nor inherited. Returns the first error; then nothing has
    /// changed.
    pub(super) fn bind_missing(
        server: &Server,
        existing: &[BoundListener],
        inherited: &mut Inherited,
    ) -> Result<Vec<BoundListener>, StartError> {
        let addresses = addresses(server);
        let missing =
            addresses.filter(|(kind, address)| !existing.iter().any(|it| it.is(*kind, address)));
        let bound = missing.map(|(kind, address)| {
            let socket = bind_one(kind.as_str(), address, inherited)?;
            let configured = address.value.0;
            Ok(BoundListener {
                kind,
                configured,
                address: socket.local_addr().unwrap_or(configured),
                socket: Arc::new(socket),
                started: false,
                closed: CancellationToken::new(),
            })
        });
        bound.collect()
    }

    /// Returns whether `server` has its address.
    pub(super) fn is_configured(&self, server: &Server) -> bool {
        addresses(server).any(|(kind, address)| self.is(kind, address))
    }

    pub(super) fn is_https(&self) -> bool {
        self.kind == ListenerKind::Https
    }

    pub(super) fn address(&self) -> SocketAddr {
        self.address
    }

    /// Returns the kind and the configured address.
    pub(super) fn configured(&self) -> (&'static str, String) {
        (self.kind.as_str(), self.configured.to_string())
    }

    pub(super) fn socket(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }

    /// Starts the accept loop, which runs until [`BoundListener::close`] or shutdown. Does nothing if it is already started.
    pub(super) fn start(
        &mut self,
        handler: &Arc<ConnectionHandler>,
        metrics: &Arc<Metrics>,
        tasks: &Tasks,
        https_port: &Arc<AtomicU16>,
    ) {
        if std::mem::replace(&mut self.started, true) {
            return;
        }
        let socket = self.socket.clone();
        let limiter = handler.limiter.clone();
        let (handler, metrics, closed) = (handler.clone(), metrics.clone(), self.closed.clone());
        let connection_tasks = tasks.clone();
        match self.kind {
            ListenerKind::Https => {
                let serve = move |tcp: TcpStream, from: SocketAddr, permit: ConnectionPermit| {
                    handler.clone().serve_tls(tcp, from, permit)
                };
                tasks.spawn(listener::accept(
                    socket,
                    limiter,
                    metrics,
                    connection_tasks,
                    closed,
                    serve,
                ));
            }
            ListenerKind::Http => {
                let https_port = https_port.clone();
                let serve = move |tcp: TcpStream, from: SocketAddr, permit: ConnectionPermit| {
                    let https_port = https_port.load(Ordering::Relaxed);
                    handler.clone().serve_plain(tcp, from, permit, https_port)
                };
                tasks.spawn(listener::accept(
                    socket,
                    limiter,
                    metrics,
                    connection_tasks,
                    closed,
                    serve,
                ));
            }
        }
    }

    /// Stops accepting; accepted connections continue.
    pub(super) fn close(&self) {
        self.closed.cancel();
    }

    pub(super) fn status(&self) -> ListenerStatus {
        ListenerStatus {
            kind: self.kind.as_str(),
            address: self.address.to_string(),
        }
    }

    fn is(&self, kind: ListenerKind, address: &Located<ListenAddress>) -> bool {
        self.kind == kind && self.configured == address.value.0
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

fn addresses(server: &Server) -> impl Iterator<Item = (ListenerKind, &Located<ListenAddress>)> {
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
