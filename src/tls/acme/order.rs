//! The request for one certificate, and the CA that it is sent to.

use crate::{
    config::{Challenge, DnsHook, Eab},
    net::web_client::WebClient,
    tls::{acme::schedule::CaClock, issued::IssuedCerts},
};
use rustls::ClientConfig;
use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, PoisonError},
};
use tokio::sync::OwnedMutexGuard;

/// The CA, as configured.
pub(crate) struct CaConfig {
    /// The URL of the ACME directory.
    pub(crate) directory: String,
    /// The contacts, as "mailto:" URLs.
    pub(crate) contact: Vec<String>,
    pub(crate) eab: Option<Eab>,
    pub(crate) dns: Option<DnsHook>,
    /// The roots that the CA's HTTPS certificate is verified against.
    pub(crate) tls: Arc<ClientConfig>,
    pub(crate) https: WebClient,
    pub(crate) clock: CaClock,
    /// The locks of TXT records, by host.
    pub(crate) txt_record_locks: Mutex<BTreeMap<Box<str>, Arc<tokio::sync::Mutex<()>>>>,
}

// === impl CaConfig ===

impl CaConfig {
    /// Waits until no other order uses the TXT record of `host`.
    pub(crate) async fn lock_txt_record(&self, host: &str) -> OwnedMutexGuard<()> {
        let lock = {
            let mut txt_record_locks = self
                .txt_record_locks
                .lock()
                .unwrap_or_else(PoisonError::into_inner);
            txt_record_locks.entry(host.into()).or_default().clone()
        };
        lock.lock_owned().await
    }
}

/// The request for one certificate.
pub(crate) struct OrderRequest {
    /// The name in lower case; may be a wildcard such as `*.example.com`.
    pub(crate) name: Box<str>,
    pub(crate) challenge: Challenge,
    /// The account key in PKCS #8.
    pub(crate) account: Arc<[u8]>,
    pub(crate) ca: Arc<CaConfig>,
    pub(crate) issued: Arc<IssuedCerts>,
}

// === impl OrderRequest ===

impl OrderRequest {
    pub(crate) fn now(&self) -> i64 {
        self.ca.clock.now()
    }
}
