//! What a gateway keeps for handshakes.

use std::sync::Arc;

use rustls::ServerConfig;
use rustls::server::{ProducesTickets, WebPkiClientVerifier};
use tracing::warn;

use super::asking::ClientAuthHosts;
use super::policy::{server_config, ticketer};
use super::{Certificates, IssuedCerts, client_ca};
use crate::config::{Diagnostic, HostPattern, Tls};

/// How TLS is ended.
#[derive(Debug)]
pub struct TlsServer {
    /// For clients.
    pub(super) config: Arc<ServerConfig>,
    /// For clients that are asked for a certificate; `None` if no route wants one.
    pub(super) asking: Option<ClientAuth>,
    /// Where the answers for CAs are.
    pub shelf: Arc<IssuedCerts>,
}

/// How handshakes are done that ask for a client's certificate, and which these are.
#[derive(Debug)]
pub(super) struct ClientAuth {
    pub(super) config: Arc<ServerConfig>,
    pub(super) hosts: ClientAuthHosts,
}

// === impl TlsServer ===

impl TlsServer {
    /// `asking` are the hosts of the routes that want a client's certificate; tickets of `previous` still resume. `None`
    /// after a problem.
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
                "tls.client_ca is set, but no route has client_cert: nobody is asked for a certificate"
            );
        }
        // Read also where nobody is asked: what is named in a config must be there.
        let clients = match &tls.client_ca {
            Some(file) => Some(client_ca::verifier(file, problems)?),
            None => None,
        };
        let mut configured = |clients, tickets: Option<Arc<dyn ProducesTickets>>| match tickets
            .map_or_else(ticketer, Ok)
        {
            // Tickets of its own for each: one from a handshake that did not ask must not lead past the question.
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
                // New ones: the old may be from clients of another CA.
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

    /// Whether a client that wants `name` is asked for its certificate; `None` if it names nothing. The same is asked
    /// about a server name and about the authority of a request, so that the two can be compared.
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
