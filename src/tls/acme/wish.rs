//! One certificate that is wanted, with all that an order of it needs; and which library orders it.

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

/// The CA, as the config says.
pub(super) struct CaConfig {
    /// The URL of its directory.
    pub(super) directory: String,
    /// "mailto:" URLs.
    pub(super) contact: Vec<String>,
    pub(super) eab: Option<Eab>,
    pub(super) dns: Option<DnsHook>,
    /// Whom we believe that he is the CA.
    pub(super) tls: Arc<ClientConfig>,
    pub(super) web: HttpsClient,
    pub(super) clock: CaClock,
    /// TXT records in use, by their host.
    pub(super) records: Mutex<BTreeMap<Box<str>, Arc<tokio::sync::Mutex<()>>>>,
}

// === impl CaConfig ===

impl CaConfig {
    /// Waits until nobody else proves something by the TXT record of `host`. There are as many as hosts in the config.
    pub(super) async fn lock_txt_record(&self, host: &str) -> OwnedMutexGuard<()> {
        let record = {
            let mut records = self.records.lock().unwrap_or_else(PoisonError::into_inner);
            records.entry(host.into()).or_default().clone()
        };
        record.lock_owned().await
    }
}

/// What is to be ordered.
pub(super) struct OrderRequest {
    /// In lower case; maybe `*.example.com`.
    pub(super) name: Box<str>,
    pub(super) challenge: Challenge,
    /// The account's key, in PKCS #8.
    pub(super) account: Arc<[u8]>,
    pub(super) ca: Arc<CaConfig>,
    pub(super) shelf: Arc<IssuedCerts>,
}

// === impl OrderRequest ===

impl OrderRequest {
    /// Orders: key and chain in PEM, within minutes, or why not. `rustls-acme` does it where it can; `instant-acme` for
    /// DNS-01 and bound accounts, and when a nonce was refused, for it asks again where the other begins anew.
    pub(super) async fn issue(&self) -> Result<Vec<u8>, AcmeError> {
        let limit = match self.challenge {
            Challenge::Dns01 => WATCHDOG_DNS,
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
            Err(AcmeError::BadNonce(why)) => {
                debug!(host = %self.name, %why, "a nonce was refused: ordered again by the patient library");
                order::issue(self).await
            }
            issued => issued,
        }
    }

    pub(super) fn now(&self) -> i64 {
        self.ca.clock.now()
    }
}

/// Five tries of a CA take half a minute, and `rustls-acme` knows no deadline.
const ORDER_TIMEOUT: Duration = Duration::from_secs(300);
/// The programs that change DNS have their own.
const WATCHDOG_DNS: Duration = Duration::from_secs(900);
