//! TLS termination: the TLS handshake, the choice of the certificate, and the sources of certificates.
//!
//! `acceptor` runs one handshake with the configurations in `termination`; `resolver` finds the certificate for a
//! server name. Certificates come from `files` (watched PEM pairs), from `dev` (the development CA, which `trust` adds
//! to trust stores), or from `acme`, which publishes them in `shelf` and saves them in `store`. `policy` is the fixed
//! part: versions, groups, tickets. `asking` selects the hosts that request client authentication, and `client_ca`
//! verifies client certificates. Deadlines are not part of this module: one deadline spans accept to first request, and
//! the caller owns it.

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
