//! A key and its chain in one PEM file, the key first: the format of issued certificates in the store.

use crate::{
    net::{
        crypto::provider,
        pem::{self, section::BadPem},
    },
    tls::x509::{self, CertInfo},
};
use rustls::sign::CertifiedKey;
use std::sync::Arc;

/// A certificate chain with its key, ready to serve.
#[derive(Debug)]
pub(crate) struct CertChain {
    pub(crate) key: Arc<CertifiedKey>,
    pub(crate) cert_info: CertInfo,
}

/// An error in a stored PEM file.
#[derive(Debug, thiserror::Error)]
pub(crate) enum BadCertChain {
    #[error("it is empty")]
    Empty,
    #[error("it is damaged")]
    Pem(#[source] BadPem),
    #[error("it has no usable private key")]
    Key,
    #[error("it has no usable certificate")]
    Certificate,
    #[error("its key does not belong to its certificate")]
    KeyMismatch,
    #[error("its certificate is for {0}")]
    OtherName(String),
}

// === impl CertChain ===

impl CertChain {
    /// Parses a PEM file and checks that it can be served for `name`. Dates are not checked, because an expired
    /// certificate may be the only one.
    pub(crate) fn parse(text: &[u8], name: &str) -> Result<CertChain, BadCertChain> {
        if text.is_empty() {
            return Err(BadCertChain::Empty);
        }
        let key = pem::parse_key(text);
        let key = key.map_err(BadCertChain::Pem)?.ok_or(BadCertChain::Key)?;
        let chain = pem::parse_certificates(text);
        let chain = chain.map_err(BadCertChain::Pem)?;
        let cert_info = chain.first().and_then(x509::cert_info);
        let cert_info = cert_info.ok_or(BadCertChain::Certificate)?;
        let key = provider().key_provider.load_private_key(key);
        let key = CertifiedKey::new(chain, key.map_err(|_| BadCertChain::Key)?);
        key.keys_match().map_err(|_| BadCertChain::KeyMismatch)?;
        if !cert_info.names.iter().any(|covered| &**covered == name) {
            return Err(BadCertChain::OtherName(cert_info.names.join(", ")));
        }
        Ok(CertChain {
            key: Arc::new(key),
            cert_info,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use rcgen::{CertificateParams, KeyPair};

    fn self_signed_pair(names: &[&str]) -> (String, String) {
        let names: Vec<String> = names.iter().map(ToString::to_string).collect();
        let key = KeyPair::generate().unwrap();
        let certificate = CertificateParams::new(names).unwrap().self_signed(&key);
        (key.serialize_pem(), certificate.unwrap().pem())
    }

    #[test]
    fn only_a_complete_chain_for_the_right_name_is_accepted() {
        let (key, certificate) = self_signed_pair(&["a.test", "*.b.test"]);
        let (other, _) = self_signed_pair(&["a.test"]);
        let whole = format!("{key}\n{certificate}");
        for name in ["a.test", "*.b.test"] {
            let chain = CertChain::parse(whole.as_bytes(), name).unwrap();
            assert_eq!(chain.cert_info.names.len(), 2);
        }
        let bad = |pem: &str| CertChain::parse(pem.as_bytes(), "a.test").unwrap_err();
        assert!(matches!(bad(""), BadCertChain::Empty));
        assert!(matches!(bad("garbage"), BadCertChain::Key));
        assert!(matches!(bad(&certificate), BadCertChain::Key));
        assert!(matches!(bad(&key), BadCertChain::Certificate));
        assert!(matches!(
            bad(&whole[..whole.len() - 40]),
            BadCertChain::Pem(_)
        ));
        assert!(matches!(
            bad(&format!("{other}\n{certificate}")),
            BadCertChain::KeyMismatch
        ));
        let other_name = CertChain::parse(whole.as_bytes(), "c.test");
        assert!(matches!(other_name, Err(BadCertChain::OtherName(_))));
    }
}
