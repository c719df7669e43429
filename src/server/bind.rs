//! Binds the addresses of configuration keys, and reports why one cannot be bound.

use crate::{
    admin,
    config::{AdminAddress, ListenAddress, Located},
    lifecycle::Inherited,
    listener,
    tls::BadRoots,
};
use std::{io, sync::Arc};
use tokio::net::TcpListener;

/// The reason why the server cannot start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// An address cannot be bound.
    #[error("cannot listen on {address} ({key}, or {flag}): {hint}")]
    Bind {
        /// The configuration key of the address.
        key: &'static str,
        /// The command-line flag of the address.
        flag: &'static str,
        /// The address.
        address: String,
        /// The likely cause or remedy.
        hint: &'static str,
        /// The error of the system call.
        #[source]
        source: io::Error,
    },
    /// A socket of systemd is not configured: connections to it would never be accepted.
    #[error(
        "systemd listens on {0} for this service, but no key has this address: add it in this form to server.https, \
         server.http, server.admin or server.metrics, or remove it from the .socket unit"
    )]
    Unclaimed(String),
    /// The trust roots for the ACME CA cannot be read.
    #[error("acme.ca_file")]
    Acme(#[from] BadRoots),
}

/// Returns the inherited listener for an address of `server.KIND`, or binds the address.
pub(super) fn bind_one(
    kind: &'static str,
    address: &Located<ListenAddress>,
    inherited: &mut Inherited,
) -> Result<TcpListener, StartError> {
    let configured = address.value.0.to_string();
    let bound = match inherited.take_tcp(kind, &configured) {
        Some(listener) => listener
            .set_nonblocking(true)
            .and_then(|()| TcpListener::from_std(listener)),
        None => listener::bind(address.value.0),
    };
    bound.map_err(|source| bind_error(kind, configured, source, inherited.is_takeover()))
}

/// Does the same as [`bind_one`] for `server.admin` and `server.metrics`; `None` for "off".
pub(super) fn bind_admin(
    kind: &'static str,
    address: &AdminAddress,
    inherited: &mut Inherited,
) -> Result<Option<Arc<admin::AdminListener>>, StartError> {
    let configured = admin::describe(address);
    let bound = match inherited.take(kind, &configured) {
        Some(descriptor) => admin::inherit(descriptor, address).map(Some),
        None => admin::bind(address),
    };
    let bound =
        bound.map_err(|source| bind_error(kind, configured, source, inherited.is_takeover()))?;
    Ok(bound.map(Arc::new))
}

fn bind_error(
    kind: &'static str,
    address: String,
    source: io::Error,
    takeover: bool,
) -> StartError {
    let hint = match source.kind() {
        io::ErrorKind::AddrInUse if takeover => {
            "if the running lockgate listens there, configure the address under the same key and in the same form as it \
             does; otherwise `ss -ltnp` shows which program listens"
        }
        io::ErrorKind::AddrInUse => "another program listens there; `ss -ltnp` shows which",
        io::ErrorKind::PermissionDenied => {
            "ports below 1024 require root or the capability CAP_NET_BIND_SERVICE"
        }
        io::ErrorKind::AddrNotAvailable => "this machine has no such address",
        _ => "the operating system reports an error",
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
