//! Certificates issued by ACME, by host, and the responders for pending challenges.
//!
//! All gateways, old and new, read them; only `acme` writes. A name is served with its own certificate or with none.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::{Arc, PoisonError, RwLock};

use rustls::server::ClientHello;
use rustls::sign::CertifiedKey;

/// The issued certificates and pending challenges. Created once, before the first gateway.
#[derive(Default)]
pub struct IssuedCerts {
    /// Certificates by lower-case DNS name or `*.name`.
    certificates: RwLock<BTreeMap<Box<str>, Arc<CertifiedKey>>>,
    /// Responders by the name that a CA validates.
    responders: RwLock<BTreeMap<Box<str>, Arc<dyn ChallengeResponder>>>,
}

// === impl IssuedCerts ===

impl IssuedCerts {
    /// Returns the certificate of exactly this name.
    pub(super) fn certificate(&self, name: &str) -> Option<Arc<CertifiedKey>> {
        read(&self.certificates, name)
    }

    /// Sets the certificate that is served for `name` from the next TLS handshake on.
    pub(super) fn insert(&self, name: &str, key: Arc<CertifiedKey>) {
        write(&self.certificates, name, key);
    }

    /// Removes the certificate of `name`, which is no longer configured or must not be served without its own
    /// certificate.
    pub(super) fn clear(&self, name: &str) {
        erase(&self.certificates, name);
    }

    /// Returns the certificate that proves control of `name` (RFC 8737 §3), while its challenge is pending.
    pub(super) fn challenge(
        &self,
        name: &str,
        hello: ClientHello<'_>,
    ) -> Option<Arc<CertifiedKey>> {
        read(&self.responders, name)?.hello(hello)
    }

    /// Returns the key authorization for an HTTP-01 token (RFC 8555 §8.3), while its challenge is pending.
    pub fn key_authorization(&self, token: &str) -> Option<String> {
        let examined = self.responders.read();
        let examined = examined.unwrap_or_else(PoisonError::into_inner);
        examined.values().find_map(|examinee| examinee.token(token))
    }

    /// Registers `examinee` for the challenges of `name` until the returned guard is dropped.
    pub(super) fn register_challenge(
        self: &Arc<Self>,
        name: &str,
        examinee: Arc<dyn ChallengeResponder>,
    ) -> ChallengeGuard {
        write(&self.responders, name, examinee.clone());
        ChallengeGuard {
            shelf: self.clone(),
            name: name.into(),
            examinee,
        }
    }
}

/// A responder for a pending challenge.
pub(super) trait ChallengeResponder: Send + Sync {
    /// Returns the certificate for TLS-ALPN-01.
    fn hello(&self, hello: ClientHello<'_>) -> Option<Arc<CertifiedKey>>;

    /// Returns the key authorization of the token for HTTP-01.
    fn token(&self, token: &str) -> Option<String>;
}

impl fmt::Debug for IssuedCerts {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let certificates = self.certificates.read();
        let certificates = certificates.unwrap_or_else(PoisonError::into_inner);
        f.debug_set().entries(certificates.keys()).finish()
    }
}

/// A guard that removes the responder of a name on drop.
#[must_use]
pub(super) struct ChallengeGuard {
    shelf: Arc<IssuedCerts>,
    name: Box<str>,
    examinee: Arc<dyn ChallengeResponder>,
}

// === impl ChallengeGuard ===

impl Drop for ChallengeGuard {
    fn drop(&mut self) {
        // A later responder for the same name may have replaced this one.
        let mine = read(&self.shelf.responders, &self.name);
        if mine.is_some_and(|mine| Arc::ptr_eq(&mine, &self.examinee)) {
            erase(&self.shelf.responders, &self.name);
        }
    }
}

type Drawer<T> = RwLock<BTreeMap<Box<str>, T>>;

fn read<T: Clone>(drawer: &Drawer<T>, name: &str) -> Option<T> {
    let drawer = drawer.read().unwrap_or_else(PoisonError::into_inner);
    drawer.get(name).cloned()
}

fn write<T>(drawer: &Drawer<T>, name: &str, value: T) {
    let mut drawer = drawer.write().unwrap_or_else(PoisonError::into_inner);
    drawer.insert(name.into(), value);
}

fn erase<T>(drawer: &Drawer<T>, name: &str) {
    let mut drawer = drawer.write().unwrap_or_else(PoisonError::into_inner);
    drawer.remove(name);
}
