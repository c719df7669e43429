//! The TLS server configurations of a gateway.

use std::sync::Arc;

use rustls::ServerConfig;
use rustls::server::{ProducesTickets, WebPkiClientVerifier};
use tracing::warn;

use super::asking::ClientAuthHosts;
use super::policy::{server_config, ticketer};
use super::{Certificates, IssuedCerts, client_ca};
use crate::config::{Diagnostic, HostPattern, Tls};

/// The TLS server settings of a gateway.
#[derive(Debug)]
pub struct TlsServer {
    /// The configuration for handshakes without client authentication.
    pub(super) config: Arc<ServerConfig>,
    /// The configuration for handshakes with client authentication; `None` if no route uses it.
    pub(super) client_auth: Option<ClientAuth>,
    /// The certificates issued by ACME and the pending challenges.
    pub issued: Arc<IssuedCerts>,
}

/// The configuration for handshakes with client authentication, and the hosts that use it.
#[derive(Debug)]
pub(super) struct ClientAuth {
    pub(super) config: Arc<ServerConfig>,
    pub(super) hosts: ClientAuthHosts,
}

// === impl TlsServer ===

impl TlsServer {
    /// Builds the settings. `client_auth_hosts` are the hosts of the routes that use client certificates. Tickets
    /// issued by `previous` without client authentication still resume. Returns `None` after adding a diagnostic to
    /// `problems`.
    pub fn build<'a>(
        tls: &Tls,
        client_auth_hosts: impl Iterator<Item = &'a HostPattern>,
        certificates: Arc<Certificates>,
        issued: Arc<IssuedCerts>,
        previous: Option<&TlsServer>,
        problems: &mut Vec<Diagnostic>,
    ) -> Option<TlsServer> {
        let hosts: ClientAuthHosts = client_auth_hosts.collect();
        if tls.client_ca.is_some() && hosts.is_empty() {
            warn!(
                "tls.client_ca is set, but no route has client_cert; no client certificate is requested"
            );
        }
        // The file is read even if no route uses it, because every file that a configuration names must exist.
        let verifier = match &tls.client_ca {
            Some(file) => Some(client_ca::verifier(file, problems)?),
            None => None,
        };
        let mut build_config =
            |verifier, previous_ticketer: Option<Arc<dyn ProducesTickets>>| match previous_ticketer
                .map_or_else(ticketer, Ok)
            {
                // Each configuration has its own ticket keys: a ticket from a handshake without client authentication
                // must not bypass it.
                Ok(ticketer) => Some(server_config(tls, certificates.clone(), verifier, ticketer)),
                Err(error) => {
                    problems.push(Diagnostic {
                        at: None,
                        message: format!("cannot create keys for TLS session tickets: {error}"),
                        hint: None,
                    });
                    None
                }
            };
        let previous_ticketer = previous.map(|previous| previous.config.ticketer.clone());
        let config = build_config(WebPkiClientVerifier::no_client_auth(), previous_ticketer)?;
        let client_auth = match verifier {
            Some(verifier) if !hosts.is_empty() => Some(ClientAuth {
                // New ticket keys: older tickets may belong to clients of another CA.
                config: build_config(verifier, None)?,
                hosts,
            }),
            _ => None,
        };
        Some(TlsServer {
            config,
            client_auth,
            issued,
        })
    }

    /// Returns true if client authentication is requested for `name`; `None` stands for a missing name. It is called
    /// with the server name and with the authority of a request, so that the results can be compared.
    pub fn requires_client_auth(&self, name: Option<&str>) -> bool {
        self.client_auth(name).is_some()
    }

    pub(super) fn client_auth(&self, name: Option<&str>) -> Option<&ClientAuth> {
        let client_auth = self.client_auth.as_ref();
        client_auth.filter(|client_auth| client_auth.hosts.contains(name))
    }
}

#[cfg(test)]
mod tests;
