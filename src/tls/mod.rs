//! TLS termination: the TLS handshake, the choice of the certificate, and the sources of certificates.
//!
//! `accept` runs one handshake with a configuration of `server_config`; open it first. `certs` finds the certificate
//! for a server name. Certificates come from `cert_files` (watched PEM pairs), from `dev` (the development CA, which
//! `trust` adds to trust stores), or from `acme`, which publishes them in `issued` and saves them in a store.
//! `client_auth` selects the hosts that request client certificates, and verifies these. `x509` reads the names and
//! dates of a certificate, and `error` has the causes of a failed handshake.
//!
//! The encrypted stream itself is `net/tls_stream`, TLS towards backends is `net/tls_client`, and PEM files are read by
//! `net/pem`. Deadlines are not part of this module: one deadline spans accept to first request, and the caller owns
//! it.

pub(crate) mod accept;
pub(crate) mod acme;
pub(crate) mod cert_files;
pub(crate) mod certs;
pub(crate) mod chain;
pub(crate) mod client_auth;
pub(crate) mod dev;
pub(crate) mod error;
pub(crate) mod issued;
pub(crate) mod nss;
pub(crate) mod server_config;
#[cfg(test)]
pub(crate) mod testing;
pub(crate) mod trust;
pub(crate) mod x509;
