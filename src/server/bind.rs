//! Sockets by their keys, and what to do when one cannot be had.

use crate::{
    admin,
    config::{AdminAddress, ListenAddress, Located},
    lifecycle::Inherited,
    listener,
    tls::BadRoots,
};
use std::{io, sync::Arc};
use tokio::net::TcpListener;

/// Why nothing was started.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// An address cannot be listened on.
    #[error("cannot listen on {address} ({key}, or {flag}): {hint}")]
    Bind {
        /// The key that names it.
        key: &'static str,
        /// The flag that does.
        flag: &'static str,
        /// The address.
        address: String,
        /// What to do about it.
        hint: &'static str,
        /// What the kernel said.
        #[source]
        source: io::Error,
    },
    /// Somebody would connect there, and nobody answer.
    #[error(
        "systemd listens on {0} for this service, and no key names that: write it under server.https, server.http, \
         server.admin or server.metrics as it is here, or take it out of the .socket unit"
    )]
    Unclaimed(String),
    /// The CA cannot be believed.
    #[error("acme.ca_file")]
    Acme(#[from] BadRoots),
}

/// Binds one of the addresses that `server.KIND` lists, unless it was inherited.
pub(super) fn bind_one(
    kind: &'static str,
    address: &Located<ListenAddress>,
    inherited: &mut Inherited,
) -> Result<TcpListener, StartError> {
    let written = address.value.0.to_string();
    let bound = match inherited.take_tcp(kind, &written) {
        Some(listener) => listener
            .set_nonblocking(true)
            .and_then(|()| TcpListener::from_std(listener)),
        None => listener::bind(address.value.0),
    };
    bound.map_err(|source| failed(kind, written, source, inherited.is_takeover()))
}

/// The same for `server.admin` and `server.metrics`; `None` for "off".
pub(super) fn bind_admin(
    kind: &'static str,
    address: &AdminAddress,
    inherited: &mut Inherited,
) -> Result<Option<Arc<admin::AdminListener>>, StartError> {
    let written = admin::describe(address);
    let bound = match inherited.take(kind, &written) {
        Some(descriptor) => admin::inherit(descriptor, address).map(Some),
        None => admin::bind(address),
    };
    let bound = bound.map_err(|source| failed(kind, written, source, inherited.is_takeover()))?;
    Ok(bound.map(Arc::new))
}

fn failed(kind: &'static str, address: String, source: io::Error, takeover: bool) -> StartError {
    let hint = match source.kind() {
        io::ErrorKind::AddrInUse if takeover => {
            "the running lockgate may be the one that listens there, under another key or in another spelling: an \
             address that is taken over must stand where it stood; if not, `ss -lntp` shows who it is"
        }
        io::ErrorKind::AddrInUse => "another program listens there; `ss -ltnp` shows which",
        io::ErrorKind::PermissionDenied => {
            "ports below 1024 are for root, or for a program with the capability CAP_NET_BIND_SERVICE"
        }
        io::ErrorKind::AddrNotAvailable => "this machine has no such address",
        _ => "the system refused",
    };
    let (key, flag) = match kind {
        "admin" => ("server.admin", "--admin"),
        "https" => ("server.https", "--listen"),
        "http" => ("server.http", "--config"),
        _ => ("server.metrics", "--config"),
    };
    StartError::Bind {
        key,
        flag,
        address,
        hint,
        source,
    }
}
