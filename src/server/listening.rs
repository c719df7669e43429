//! Listeners as they are wanted: bound before anything else changes, started and closed with the rest.

use super::bind::{StartError, bind_one};
use crate::{
    config::{ListenAddress, Located, Server},
    lifecycle::{ListenerStatus, Tasks},
    listener::{self, Doorway, Permit},
    observe::Metrics,
};
use std::{
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicU16, Ordering},
    },
};
use tokio::net::{TcpListener, TcpStream};
use tokio_util::sync::CancellationToken;

/// What a listener speaks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    Https,
    Http,
}

/// A bound socket, by the address as it was written.
#[derive(Debug)]
pub(super) struct Listening {
    kind: Kind,
    written: SocketAddr,
    /// With its real port.
    address: SocketAddr,
    /// Taken when it is started.
    socket: Option<TcpListener>,
    gone: CancellationToken,
}

// === impl Listening ===

impl Listening {
    /// Binds what `server` wants and `held` has not; the first that fails ends it, and nothing has changed.
    pub(super) fn missing(
        server: &Server,
        held: &[Listening],
    ) -> Result<Vec<Listening>, StartError> {
        let wanted = wanted(server);
        let missing =
            wanted.filter(|(_, kind, address)| !held.iter().any(|it| it.is(*kind, address)));
        let bound = missing.map(|(key, kind, address)| {
            let socket = bind_one(key, address)?;
            let written = address.value.0;
            Ok(Listening {
                kind,
                written,
                address: socket.local_addr().unwrap_or(written),
                socket: Some(socket),
                gone: CancellationToken::new(),
            })
        });
        bound.collect()
    }

    /// Whether `server` still wants it.
    pub(super) fn is_wanted(&self, server: &Server) -> bool {
        wanted(server).any(|(_, kind, address)| self.is(kind, address))
    }

    pub(super) fn is_https(&self) -> bool {
        self.kind == Kind::Https
    }

    pub(super) fn address(&self) -> SocketAddr {
        self.address
    }

    /// Accepts from here on, until [`Listening::close`] or the stop.
    pub(super) fn start(
        &mut self,
        doorway: &Arc<Doorway>,
        metrics: &Arc<Metrics>,
        tasks: &Tasks,
        https_port: &Arc<AtomicU16>,
    ) {
        let Some(socket) = self.socket.take() else {
            return;
        };
        let admission = doorway.admission.clone();
        let (doorway, metrics, gone) = (doorway.clone(), metrics.clone(), self.gone.clone());
        let accepted = tasks.clone();
        match self.kind {
            Kind::Https => {
                let serve = move |tcp: TcpStream, from: SocketAddr, permit: Permit| {
                    doorway.clone().secure(tcp, from, permit)
                };
                tasks.spawn(listener::accept(
                    socket, admission, metrics, accepted, gone, serve,
                ));
            }
            Kind::Http => {
                let https_port = https_port.clone();
                let serve = move |tcp: TcpStream, from: SocketAddr, permit: Permit| {
                    let https_port = https_port.load(Ordering::Relaxed);
                    doorway.clone().cleartext(tcp, from, permit, https_port)
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
            kind: match self.kind {
                Kind::Https => "https",
                Kind::Http => "http",
            },
            address: self.address.to_string(),
        }
    }

    fn is(&self, kind: Kind, address: &Located<ListenAddress>) -> bool {
        self.kind == kind && self.written == address.value.0
    }
}

fn wanted(server: &Server) -> impl Iterator<Item = (&'static str, Kind, &Located<ListenAddress>)> {
    let https = server
        .https
        .iter()
        .map(|address| ("server.https", Kind::Https, address));
    let http = server
        .http
        .iter()
        .map(|address| ("server.http", Kind::Http, address));
    https.chain(http)
}
