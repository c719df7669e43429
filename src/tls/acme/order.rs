//! The request for one certificate, and the choice of the library that orders it.

use crate::{
    config::{Challenge, DnsHook, Eab},
    net::web_client::HttpsClient,
    tls::{
        acme::{error::AcmeError, instant_acme, rustls_acme, schedule::CaClock},
        issued::IssuedCerts,
    },
};
use rustls::ClientConfig;
use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};
use tokio::{sync::OwnedMutexGuard, time::timeout};
use tracing::debug;

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
    pub(crate) https: HttpsClient,
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
    /// Orders the certificate and returns the key and the chain in PEM. Uses `rustls-acme`, except for DNS-01, for
    /// bound accounts and after a rejected nonce: these need `instant-acme`, which repeats only the rejected request
    /// whereas `rustls-acme` restarts the order.
    pub(crate) async fn issue(&self) -> Result<Vec<u8>, AcmeError> {
        let limit = match self.challenge {
            Challenge::Dns01 => DNS_ORDER_TIMEOUT,
            Challenge::TlsAlpn01 | Challenge::Http01 => ORDER_TIMEOUT,
        };
        let issued = timeout(limit, self.order()).await;
        issued.unwrap_or(Err(AcmeError::Timeout(limit.as_secs())))
    }

    async fn order(&self) -> Result<Vec<u8>, AcmeError> {
        if self.challenge == Challenge::Dns01 || self.ca.eab.is_some() {
            return instant_acme::issue(self).await;
        }
        match rustls_acme::issue(self).await {
            Err(AcmeError::BadNonce(error)) => {
                debug!(host = %self.name, %error, "nonce rejected; ordering again by instant-acme");
                instant_acme::issue(self).await
            }
            issued => issued,
        }
    }

    pub(crate) fn now(&self) -> i64 {
        self.ca.clock.now()
    }
}

/// Five validation attempts of a CA take half a minute, and `rustls-acme` has no deadline.
const ORDER_TIMEOUT: Duration = Duration::from_secs(300);

/// Includes two runs of a DNS hook, which have their own timeout.
const DNS_ORDER_TIMEOUT: Duration = Duration::from_secs(900);
