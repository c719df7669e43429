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
    pub(super) asking: Option<ClientAuth>,
    /// The certificates issued by ACME and the pending challenges.
    pub shelf: Arc<IssuedCerts>,
}

/// The configuration for handshakes with client authentication, and the hosts that use it.
#[derive(Debug)]
pub(super) struct ClientAuth {
    pub(super) config: Arc<ServerConfig>,
    pub(super) hosts: ClientAuthHosts,
}

// === impl TlsServer ===

impl TlsServer {
    /// Builds the settings. `asking` yields the hosts of the routes that use client certificates. Tickets issued by
    /// `previous` still resume. Returns `None` after adding a diagnostic to `problems`.
    pub fn build<'a>(
        tls: &Tls,
        asking: impl Iterator<Item = &'a HostPattern>,
        certificates: Arc<Certificates>,
        shelf: Arc<IssuedCerts>,
        previous: Option<&TlsServer>,
        problems: &mut Vec<Diagnostic>,
    ) -> Option<TlsServer> {
        let hosts: ClientAuthHosts = asking.collect();
        if tls.client_ca.is_some() && hosts.is_empty() {
            warn!(
                "tls.client_ca is set, but no route has client_cert: no client certificate is requested"
            );
        }
        // Read even if no route uses it: every file that a configuration names must exist.
        let clients = match &tls.client_ca {
            Some(file) => Some(client_ca::verifier(file, problems)?),
            None => None,
        };
        let mut configured = |clients, tickets: Option<Arc<dyn ProducesTickets>>| match tickets
            .map_or_else(ticketer, Ok)
        {
            // Each configuration has its own ticket keys: a ticket from a handshake without client authentication
            // must not bypass it.
            Ok(ticketer) => Some(server_config(tls, certificates.clone(), clients, ticketer)),
            Err(error) => {
                problems.push(Diagnostic {
                    at: None,
                    message: format!("cannot make keys for TLS session tickets: {error}"),
                    hint: None,
                });
                None
            }
        };
        let tickets = previous.map(|previous| previous.config.ticketer.clone());
        let config = configured(WebPkiClientVerifier::no_client_auth(), tickets)?;
        let asking = match clients {
            Some(clients) if !hosts.is_empty() => Some(ClientAuth {
                // New ticket keys: older tickets may belong to clients of another CA.
                config: configured(clients, None)?,
                hosts,
            }),
            _ => None,
        };
        Some(TlsServer {
            config,
            asking,
            shelf,
        })
    }

    /// Returns true if client authentication is requested for `name`; `None` stands for a missing name. It is called for
    /// the server name and for the authority of a request, so that the two can be compared.
    pub fn requires_client_auth(&self, name: Option<&str>) -> bool {
        self.client_auth(name).is_some()
    }

    pub(super) fn client_auth(&self, name: Option<&str>) -> Option<&ClientAuth> {
        let asking = self.asking.as_ref();
        asking.filter(|asking| asking.hosts.contains(name))
    }
}

#[cfg(test)]
mod tests;
