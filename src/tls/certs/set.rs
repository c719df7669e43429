//! The certificates of one name, one for each kind of key, and the choice between them.

use crate::tls::x509;
use rustls::{SignatureScheme, sign::CertifiedKey};
use std::sync::Arc;

/// The certificates of one name with keys of different kinds, such as RSA and ECDSA, in the order of the configuration.
#[derive(Clone, Debug, Default)]
pub(crate) struct CertSet(Vec<Arc<CertifiedKey>>);

// === impl CertSet ===

impl CertSet {
    pub(crate) fn of(key: Arc<CertifiedKey>) -> CertSet {
        CertSet(vec![key])
    }

    /// Adds a certificate, unless there is one with such a key.
    pub(crate) fn add(&mut self, key: &Arc<CertifiedKey>) {
        let kind = key.key.algorithm();
        if !self.0.iter().any(|known| known.key.algorithm() == kind) {
            self.0.push(key.clone());
        }
    }

    pub(crate) fn keys(&self) -> impl Iterator<Item = &Arc<CertifiedKey>> {
        self.0.iter()
    }

    /// Returns the first certificate.
    pub(crate) fn first(&self) -> Option<&Arc<CertifiedKey>> {
        self.0.first()
    }

    /// Returns the certificate for the scheme that the client prefers, among those that one of the keys can sign with.
    pub(crate) fn choose(&self, offered: &[SignatureScheme]) -> Option<Arc<CertifiedKey>> {
        // A TLS 1.3 handshake is not signed by PKCS #1 v1.5 (RFC 8446 §4.2.3), so these schemes count last.
        let chosen = [false, true].into_iter().find_map(|pkcs1| {
            let mut schemes = offered.iter().filter(|scheme| is_pkcs1(**scheme) == pkcs1);
            schemes.find_map(|scheme| {
                self.keys()
                    .find(|key| key.key.choose_scheme(&[*scheme]).is_some())
            })
        });
        chosen.cloned()
    }

    /// Returns the certificate of [`CertSet::choose`], otherwise the first one.
    pub(crate) fn choose_or_first(&self, offered: &[SignatureScheme]) -> Option<Arc<CertifiedKey>> {
        self.choose(offered).or_else(|| self.first().cloned())
    }

    /// Returns when the first of them expires, in seconds since 1970.
    pub(crate) fn not_after(&self) -> Option<i64> {
        self.keys()
            .filter_map(|key| Some(x509::cert_info(key.cert.first()?)?.not_after))
            .min()
    }
}

fn is_pkcs1(scheme: SignatureScheme) -> bool {
    matches!(
        scheme,
        SignatureScheme::RSA_PKCS1_SHA256
            | SignatureScheme::RSA_PKCS1_SHA384
            | SignatureScheme::RSA_PKCS1_SHA512
            | SignatureScheme::RSA_PKCS1_SHA1
    )
}
