//! What ACME lays out for handshakes: certificates by host, and the answers to challenges under way.
//!
//! The gateways read it, old and new alike; only `acme` writes. A name gets its own certificate or none.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::{Arc, PoisonError, RwLock};

use rustls::server::ClientHello;
use rustls::sign::CertifiedKey;

/// Made once, before the first gateway.
#[derive(Default)]
pub struct IssuedCerts {
    /// By lower-case DNS name or `*.name`.
    certificates: RwLock<BTreeMap<Box<str>, Arc<CertifiedKey>>>,
    /// Who answers for a name that a CA validates.
    responders: RwLock<BTreeMap<Box<str>, Arc<dyn ChallengeResponder>>>,
}

// === impl IssuedCerts ===

impl IssuedCerts {
    /// The certificate of exactly this name.
    pub(super) fn certificate(&self, name: &str) -> Option<Arc<CertifiedKey>> {
        read(&self.certificates, name)
    }

    /// From now on `name` is served with this one.
    pub(super) fn insert(&self, name: &str, key: Arc<CertifiedKey>) {
        write(&self.certificates, name, key);
    }

    /// `name` is not ours any more, or was never to be served without a certificate of its own.
    pub(super) fn clear(&self, name: &str) {
        erase(&self.certificates, name);
    }

    /// The certificate that proves control of `name` (RFC 8737 §3), while that is being asked.
    pub(super) fn challenge(
        &self,
        name: &str,
        hello: ClientHello<'_>,
    ) -> Option<Arc<CertifiedKey>> {
        read(&self.responders, name)?.hello(hello)
    }

    /// The key authorization for an HTTP-01 token (RFC 8555 §8.3), while that is being asked.
    pub fn key_authorization(&self, token: &str) -> Option<String> {
        let examined = self.responders.read();
        let examined = examined.unwrap_or_else(PoisonError::into_inner);
        examined.values().find_map(|examinee| examinee.token(token))
    }

    /// From now on `examinee` answers for `name`, until what is returned is dropped.
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

/// Knows the answers to a challenge that is under way.
pub(super) trait ChallengeResponder: Send + Sync {
    /// For TLS-ALPN-01.
    fn hello(&self, hello: ClientHello<'_>) -> Option<Arc<CertifiedKey>>;

    /// For HTTP-01: the key authorization of its token.
    fn token(&self, token: &str) -> Option<String>;
}

impl fmt::Debug for IssuedCerts {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let certificates = self.certificates.read();
        let certificates = certificates.unwrap_or_else(PoisonError::into_inner);
        f.debug_set().entries(certificates.keys()).finish()
    }
}

/// An answer that is given until this is dropped.
#[must_use]
pub(super) struct ChallengeGuard {
    shelf: Arc<IssuedCerts>,
    name: Box<str>,
    examinee: Arc<dyn ChallengeResponder>,
}

// === impl ChallengeGuard ===

impl Drop for ChallengeGuard {
    fn drop(&mut self) {
        // A later one for the same name may have taken its place.
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
