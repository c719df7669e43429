//! The cryptographic provider of rustls, which every TLS configuration of this crate uses.

use rustls::crypto::{CryptoProvider, aws_lc_rs};
use std::sync::Arc;

/// Installs aws-lc-rs as the provider of the process. It must be called first: a dependency that enables another
/// provider makes the default ambiguous, and rustls then panics. Later calls have no effect.
pub fn install_provider() {
    // An error means that a provider is already installed.
    let _ = aws_lc_rs::default_provider().install_default();
}

/// Returns the provider. X25519MLKEM768 is the first of its groups.
pub(crate) fn provider() -> Arc<CryptoProvider> {
    Arc::new(aws_lc_rs::default_provider())
}

#[cfg(test)]
mod tests {
    use super::*;
    use rustls::NamedGroup;

    #[test]
    fn installed_provider_prefers_the_hybrid_group() {
        install_provider();
        install_provider();
        let installed = CryptoProvider::get_default().unwrap();
        assert_eq!(installed.kx_groups[0].name(), NamedGroup::X25519MLKEM768);
        assert_eq!(provider().kx_groups[0].name(), NamedGroup::X25519MLKEM768);
    }

    #[test]
    fn documented_suites_and_groups_are_those_of_the_provider() {
        let page = include_str!("../../docs/tls.md");
        let rows = page.lines().filter_map(|line| line.strip_prefix("| `"));
        let documented: Vec<&str> = rows.filter_map(|row| row.split('`').next()).collect();
        let suites = provider().cipher_suites.clone();
        let suites = suites.iter().map(|suite| format!("{:?}", suite.suite()));
        let groups = provider().kx_groups.clone();
        let groups = groups.iter().map(|group| format!("{:?}", group.name()));
        assert_eq!(documented, suites.chain(groups).collect::<Vec<_>>());
    }
}
