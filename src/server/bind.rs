//! Sockets by their keys, and what to do when one cannot be had.

use crate::{
    config::{ListenAddress, Located},
    listener,
    tls::BadRoots,
};
use std::io;
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
    /// The CA cannot be believed.
    #[error("acme.ca_file")]
    Acme(#[from] BadRoots),
}

/// Binds one of the addresses that `key` lists.
pub(super) fn bind_one(
    key: &'static str,
    address: &Located<ListenAddress>,
) -> Result<TcpListener, StartError> {
    listener::bind(address.value.0)
        .map_err(|source| failed(key, address.value.0.to_string(), source))
}

pub(super) fn failed(key: &'static str, address: String, source: io::Error) -> StartError {
    let hint = match source.kind() {
        io::ErrorKind::AddrInUse => "another program listens there; `ss -ltnp` shows which",
        io::ErrorKind::PermissionDenied => {
            "ports below 1024 are for root, or for a program with the capability CAP_NET_BIND_SERVICE"
        }
        io::ErrorKind::AddrNotAvailable => "this machine has no such address",
        _ => "the system refused",
    };
    let flag = match key {
        "server.admin" => "--admin",
        "server.https" => "--listen",
        _ => "--config",
    };
    StartError::Bind {
        key,
        flag,
        address,
        hint,
        source,
    }
}
