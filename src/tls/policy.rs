//! TLS settings that are the same for every name: provider, versions, groups, tickets.

use std::sync::Arc;

use rustls::ServerConfig;
use rustls::crypto::{CryptoProvider, aws_lc_rs};
use rustls::server::ProducesTickets;
use rustls::server::danger::ClientCertVerifier;
use rustls::version::{TLS12, TLS13};

use super::Certificates;
use crate::config::{Tls, TlsVersion};

/// Installs aws-lc-rs as the provider of the process. It must be called first: a dependency that enables another
/// provider makes the default ambiguous, and rustls then panics. Later calls have no effect.
pub fn install_provider() {
    // An error means that a provider is already installed.
    let _ = aws_lc_rs::default_provider().install_default();
}

/// Returns the provider used throughout this module. X25519MLKEM768 is the first of its groups.
pub(super) fn provider() -> Arc<CryptoProvider> {
    Arc::new(aws_lc_rs::default_provider())
}

/// Builds a server configuration with the versions from `tls.min_version`, client authentication by `verifier`, and no
/// early data.
///
/// `ticketer` is a parameter so that it survives a reload: tickets issued before the reload still resume after it. The
/// ticketer for handshakes with client authentication must not outlive its `tls.client_ca`, because a resumed
/// session keeps the client certificate, which is not verified again.
pub(super) fn server_config(
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

/// The ALPN name of HTTP/2 over TLS (RFC 9113 §3.1).
pub const H2: &[u8] = b"h2";

/// Creates a ticketer, which encrypts and decrypts session tickets. Its keys are in memory, are replaced every six
/// hours and are valid for twelve.
///
/// # Errors
/// Fails if the system returns no random bytes.
pub(super) fn ticketer() -> Result<Arc<dyn ProducesTickets>, rustls::Error> {
    aws_lc_rs::Ticketer::new()
}

#[cfg(test)]
mod tests {
    use rustls::NamedGroup;

    use super::*;

    #[test]
    fn installed_provider_prefers_the_hybrid_group() {
        install_provider();
        install_provider();
        let installed = CryptoProvider::get_default().unwrap();
        assert_eq!(installed.kx_groups[0].name(), NamedGroup::X25519MLKEM768);
        assert_eq!(provider().kx_groups[0].name(), NamedGroup::X25519MLKEM768);
    }

    #[test]
    fn early_data_is_off() {
        let pki = crate::tls::testing::Pki::new();
        let tls = crate::tls::testing::tls(vec![pki.pair("a", &["a.test"])], "");
        let config = crate::tls::testing::server(&tls);
        assert_eq!(config.max_early_data_size, 0);
        assert!(config.ticketer.enabled());
    }
}
