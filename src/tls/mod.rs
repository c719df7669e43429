//! Ending TLS: which certificate a client is shown, how the handshake runs, and where certificates come from.
//!
//! `acceptor` runs one handshake, `resolver` finds the certificate for a server name, `files` reads PEM pairs, `dev` is
//! the development CA, `trust` tells clients to believe it, `policy` is the fixed part: versions, groups, tickets.
//! Deadlines are not kept here: one deadline spans accept to first request, and the caller owns it.

mod acceptor;
mod dev;
mod error;
mod files;
mod policy;
mod resolver;
mod trust;
mod x509;

pub use acceptor::{Accepted, accept};
pub use dev::{DevCa, DevCaError};
pub use error::TlsError;
pub use policy::{H2, install_provider, server_config, ticketer};
pub use resolver::Certificates;
pub use trust::{TrustError, trust, trust_commands};

#[cfg(test)]
mod testing;
