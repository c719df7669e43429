//! Certificates issued by ACME, by host, and the responders for pending challenges.
//!
//! All gateways, old and new, read them; only `acme` writes. A name is served with its own certificate or with none.

use rustls::{server::ClientHello, sign::CertifiedKey};
use std::{
    collections::BTreeMap,
    fmt,
    sync::{Arc, PoisonError, RwLock},
};

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
    pub(crate) fn certificate(&self, name: &str) -> Option<Arc<CertifiedKey>> {
        get(&self.certificates, name)
    }

    /// Sets the certificate that is served for `name` from the next TLS handshake on.
    pub(crate) fn insert(&self, name: &str, key: Arc<CertifiedKey>) {
        insert(&self.certificates, name, key);
    }

    /// Removes the certificate of `name`, which is no longer configured.
    pub(crate) fn clear(&self, name: &str) {
        remove(&self.certificates, name);
    }

    /// Returns the certificate that proves control of `name` (RFC 8737 §3), while its challenge is pending.
    pub(crate) fn challenge(
        &self,
        name: &str,
        hello: ClientHello<'_>,
    ) -> Option<Arc<CertifiedKey>> {
        get(&self.responders, name)?.hello(hello)
    }

    /// Returns the key authorization for an HTTP-01 token (RFC 8555 §8.3), while its challenge is pending.
    pub fn key_authorization(&self, token: &str) -> Option<String> {
        let responders = self.responders.read();
        let responders = responders.unwrap_or_else(PoisonError::into_inner);
        responders
            .values()
            .find_map(|responder| responder.token(token))
    }

    /// Registers `responder` for the challenges of `name` until the returned guard is dropped.
    pub(crate) fn register_challenge(
        self: &Arc<Self>,
        name: &str,
        responder: Arc<dyn ChallengeResponder>,
    ) -> ChallengeGuard {
        insert(&self.responders, name, responder.clone());
        ChallengeGuard {
            issued: self.clone(),
            name: name.into(),
            responder,
        }
    }
}

/// A responder for a pending challenge.
pub(crate) trait ChallengeResponder: Send + Sync {
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
pub(crate) struct ChallengeGuard {
    issued: Arc<IssuedCerts>,
    name: Box<str>,
    responder: Arc<dyn ChallengeResponder>,
}

// === impl ChallengeGuard ===

impl Drop for ChallengeGuard {
    fn drop(&mut self) {
        // A later responder for the same name may have replaced this one.
        let current = get(&self.issued.responders, &self.name);
        if current.is_some_and(|current| Arc::ptr_eq(&current, &self.responder)) {
            remove(&self.issued.responders, &self.name);
        }
    }
}

fn get<T: Clone>(map: &RwLock<BTreeMap<Box<str>, T>>, name: &str) -> Option<T> {
    let map = map.read().unwrap_or_else(PoisonError::into_inner);
    map.get(name).cloned()
}

fn insert<T>(map: &RwLock<BTreeMap<Box<str>, T>>, name: &str, value: T) {
    let mut map = map.write().unwrap_or_else(PoisonError::into_inner);
    map.insert(name.into(), value);
}

fn remove<T>(map: &RwLock<BTreeMap<Box<str>, T>>, name: &str) {
    let mut map = map.write().unwrap_or_else(PoisonError::into_inner);
    map.remove(name);
}
