//! The TLS server configurations of a gateway: with and without client authentication, and the settings that are the
//! same for every name (versions, groups, tickets).

use crate::{
    config::{Diagnostic, HostPattern, Tls, TlsVersion},
    net::crypto::provider,
    tls::{
        certs::Certificates,
        client_auth::{self, CaSetId, ClientAuthHosts},
        issued::IssuedCerts,
    },
};
use rustls::{
    ServerConfig,
    crypto::aws_lc_rs,
    server::{ProducesTickets, WebPkiClientVerifier, danger::ClientCertVerifier},
    version::{TLS12, TLS13},
};
use std::sync::Arc;
use tracing::warn;

/// The TLS server settings of a gateway.
#[derive(Debug)]
pub struct TlsServer {
    /// The configuration for handshakes without client authentication.
    pub(crate) config: Arc<ServerConfig>,
    /// The configuration for handshakes with client authentication; `None` if no route uses it.
    pub(crate) client_auth: Option<ClientAuth>,
    /// The certificates issued by ACME and the pending challenges.
    pub issued: Arc<IssuedCerts>,
}

/// The configuration for handshakes with client authentication, and the hosts that use it.
#[derive(Debug)]
pub(crate) struct ClientAuth {
    pub(crate) config: Arc<ServerConfig>,
    pub(crate) hosts: ClientAuthHosts,
    /// The CAs that client certificates are verified against.
    pub(crate) ca_set: CaSetId,
}

// === impl TlsServer ===

impl TlsServer {
    /// Builds the settings. `client_auth_hosts` are the hosts of the routes that use client certificates. Tickets
    /// issued by `previous` without client authentication still resume. Returns `None` after adding a diagnostic to
    /// `diagnostics`.
    pub fn build<'a>(
        tls: &Tls,
        client_auth_hosts: impl Iterator<Item = &'a HostPattern>,
        certificates: Arc<Certificates>,
        issued: Arc<IssuedCerts>,
        previous: Option<&TlsServer>,
        diagnostics: &mut Vec<Diagnostic>,
    ) -> Option<TlsServer> {
        let hosts: ClientAuthHosts = client_auth_hosts.collect();
        if tls.client_ca.is_some() && hosts.is_empty() {
            warn!(
                "tls.client_ca is set, but no route has client_cert; no client certificate is requested"
            );
        }
        // The file is read even if no route uses it, because every file that a configuration names must exist.
        let verifier = match &tls.client_ca {
            Some(file) => Some(client_auth::verifier(file, diagnostics)?),
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
                    diagnostics.push(Diagnostic {
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
            Some((verifier, ca_set)) if !hosts.is_empty() => Some(ClientAuth {
                // New ticket keys: older tickets may belong to clients of another CA.
                config: build_config(verifier, None)?,
                hosts,
                ca_set,
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

    /// Returns the client authentication for a server name; `None` if it is not requested.
    pub(crate) fn client_auth(&self, name: Option<&str>) -> Option<&ClientAuth> {
        let client_auth = self.client_auth.as_ref();
        client_auth.filter(|client_auth| client_auth.hosts.contains(name))
    }
}

/// Builds a server configuration with the versions from `tls.min_version`, client authentication by `verifier`, and no
/// early data.
///
/// `ticketer` is a parameter so that it survives a reload: tickets issued before the reload still resume after it. The
/// ticketer for handshakes with client authentication must not outlive its `tls.client_ca`, because a resumed
/// session keeps the client certificate, which is not verified again.
pub(crate) fn server_config(
    tls: &Tls,
    certificates: Arc<Certificates>,
    verifier: Arc<dyn ClientCertVerifier>,
    ticketer: Arc<dyn ProducesTickets>,
) -> Arc<ServerConfig> {
    let versions: &[_] = match tls.min_version {
        TlsVersion::V1_2 => &[&TLS13, &TLS12],
        TlsVersion::V1_3 => &[&TLS13],
    };
    let mut config = ServerConfig::builder_with_provider(provider())
        .with_protocol_versions(versions)
        .expect("the provider has cipher suites and groups for 1.2 and 1.3")
        .with_client_cert_verifier(verifier)
        .with_cert_resolver(certificates);
    config.alpn_protocols = vec![H2.to_vec(), b"http/1.1".to_vec()];
    config.ticketer = ticketer;
    // One is enough, because a client that resumes receives another one. Each ticket costs 2 % of a handshake.
    config.send_tls13_tickets = 1;
    // Early data can be replayed (RFC 8446 §8), and a WebSocket handshake is not idempotent.
    config.max_early_data_size = 0;
    Arc::new(config)
}

/// Creates a ticketer, which encrypts and decrypts session tickets. Its keys are in memory, are replaced every six
/// hours and are valid for twelve.
///
/// # Errors
/// Fails if the system returns no random bytes.
pub(crate) fn ticketer() -> Result<Arc<dyn ProducesTickets>, rustls::Error> {
    aws_lc_rs::Ticketer::new()
}

/// The ALPN name of HTTP/2 over TLS (RFC 9113 §3.1).
pub(crate) const H2: &[u8] = b"h2";

#[cfg(test)]
mod tests;
