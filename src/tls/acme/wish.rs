//! The request for one certificate, and the choice of the library that orders it.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use rustls::ClientConfig;
use tokio::sync::OwnedMutexGuard;
use tokio::time::timeout;
use tracing::debug;

use super::clock::CaClock;
use super::failure::AcmeError;
use super::web::HttpsClient;
use super::{order, state};
use crate::config::{Challenge, DnsHook, Eab};
use crate::tls::IssuedCerts;

/// The CA, as configured.
pub(super) struct CaConfig {
    /// The URL of the ACME directory.
    pub(super) directory: String,
    /// The contacts, as "mailto:" URLs.
    pub(super) contact: Vec<String>,
    pub(super) eab: Option<Eab>,
    pub(super) dns: Option<DnsHook>,
    /// The roots that the CA's HTTPS certificate is verified against.
    pub(super) tls: Arc<ClientConfig>,
    pub(super) https: HttpsClient,
    pub(super) clock: CaClock,
    /// The locks of TXT records, by host.
    pub(super) txt_record_locks: Mutex<BTreeMap<Box<str>, Arc<tokio::sync::Mutex<()>>>>,
}

// === impl CaConfig ===

impl CaConfig {
    /// Waits until no other order uses the TXT record of `host`.
    pub(super) async fn lock_txt_record(&self, host: &str) -> OwnedMutexGuard<()> {
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
pub(super) struct OrderRequest {
    /// The name in lower case; may be a wildcard such as `*.example.com`.
    pub(super) name: Box<str>,
    pub(super) challenge: Challenge,
    /// The account key in PKCS #8.
    pub(super) account: Arc<[u8]>,
    pub(super) ca: Arc<CaConfig>,
    pub(super) issued: Arc<IssuedCerts>,
}

// === impl OrderRequest ===

impl OrderRequest {
    /// Orders the certificate and returns the key and the chain in PEM. Uses `rustls-acme`, except for DNS-01, for
    /// bound accounts and after a rejected nonce: these need `instant-acme`, which repeats only the rejected request
    /// whereas `rustls-acme` restarts the order.
    pub(super) async fn issue(&self) -> Result<Vec<u8>, AcmeError> {
        let limit = match self.challenge {
            Challenge::Dns01 => DNS_ORDER_TIMEOUT,
            Challenge::TlsAlpn01 | Challenge::Http01 => ORDER_TIMEOUT,
        };
        let issued = timeout(limit, self.order()).await;
        issued.unwrap_or(Err(AcmeError::Timeout(limit.as_secs())))
    }

    async fn order(&self) -> Result<Vec<u8>, AcmeError> {
        if self.challenge == Challenge::Dns01 || self.ca.eab.is_some() {
            return order::issue(self).await;
        }
        match state::issue(self).await {
            Err(AcmeError::BadNonce(error)) => {
                debug!(host = %self.name, %error, "nonce rejected; ordering again by instant-acme");
                order::issue(self).await
            }
            issued => issued,
        }
    }

    pub(super) fn now(&self) -> i64 {
        self.ca.clock.now()
    }
}

/// Five validation attempts of a CA take half a minute, and `rustls-acme` has no deadline.
const ORDER_TIMEOUT: Duration = Duration::from_secs(300);
/// Includes two runs of a DNS hook, which have their own timeout.
const DNS_ORDER_TIMEOUT: Duration = Duration::from_secs(900);
