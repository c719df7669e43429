//! TLS termination: the TLS handshake, the choice of the certificate, and the sources of certificates.
//!
//! `acceptor` runs one handshake with the configurations in `termination`; `resolver` finds the certificate for a
//! server name. Certificates come from `files` (watched PEM pairs), from `dev` (the development CA, which `trust` adds
//! to trust stores), or from `acme`, which publishes them in `shelf` and saves them in `store`. `policy` is the fixed
//! part: versions, groups, tickets. `asking` selects the hosts that request client authentication, and `client_ca`
//! verifies client certificates. Deadlines are not part of this module: one deadline spans accept to first request, and
//! the caller owns it.

pub(crate) mod accept;
pub(crate) mod acme;
pub(crate) mod cert_files;
pub(crate) mod certs;
pub(crate) mod client_auth;
pub(crate) mod dev;
pub(crate) mod error;
pub(crate) mod issued;
pub(crate) mod server_config;
#[cfg(test)]
pub(crate) mod testing;
pub(crate) mod trust;
pub(crate) mod x509;
