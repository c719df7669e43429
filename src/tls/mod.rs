//! Ending TLS: which certificate a client is shown, how the handshake runs, and where certificates come from.
//!
//! `acceptor` runs one handshake, with what `termination` keeps for it; `resolver` finds the certificate for a server name.
//! They come from `files`, PEM pairs that are watched; from `dev`, the development CA, which `trust` tells clients to
//! believe; or from `acme`, which lays them out on the `shelf` and keeps them in the `store`. `policy` is the fixed part:
//! versions, groups, tickets; `asking` says which clients are asked for a certificate, `client_ca` which of those count.
//! Deadlines are not kept here: one deadline spans accept to first request, and the caller owns it.

mod acceptor;
mod acme;
mod asking;
mod client_ca;
mod dev;
mod error;
mod files;
mod policy;
mod resolver;
mod shelf;
mod store;
mod termination;
mod trust;
mod x509;

pub use acceptor::{AcceptOutcome, AcceptedTls, accept};
pub use acme::{Acme, BadRoots, acme_names, check_acme};
pub use dev::{DevCa, DevCaError};
pub use error::TlsError;
pub use files::watch_files;
pub use policy::{H2, install_provider};
pub use resolver::{CertIssuers, CertReload, Certificates};
pub use shelf::IssuedCerts;
pub use termination::TlsServer;
pub use trust::{TrustError, trust, trust_commands};

#[cfg(test)]
mod testing;
