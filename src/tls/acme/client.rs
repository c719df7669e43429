//! State shared by all hosts: the CA, the store and its lock, the account at the CA, and the limit on concurrent
//! orders.

use crate::{
    config::UntilIssued,
    net::pem,
    observe::metrics::Metrics,
    store::RetryingStore,
    tls::{
        acme::{
            error::{AcmeError, GenerateError, TransportError},
            order::CaConfig,
        },
        issued::IssuedCerts,
    },
};
use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use instant_acme::{Account, Error, ExternalAccountKey, Key, NewAccount};
use rcgen::KeyPair;
use rustls::pki_types::{PrivateKeyDer, PrivatePkcs8KeyDer};
use std::{
    io,
    os::fd::OwnedFd,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};
use tokio::sync::{Semaphore, SemaphorePermit};
use tracing::{error, info, warn};

pub(crate) struct AcmeClient {
    pub(crate) ca: Arc<CaConfig>,
    pub(crate) store: RetryingStore,
    pub(crate) issued: Arc<IssuedCerts>,
    pub(crate) metrics: Arc<Metrics>,
    pub(crate) until_issued: UntilIssued,
    /// The delay after a first failure.
    pub(crate) retry: Duration,
    lock: Mutex<LockState>,
    order_slots: Semaphore,
    account: tokio::sync::Mutex<Option<Arc<[u8]>>>,
}

/// The state of the store lock, which decides which process orders and writes.
enum LockState {
    /// The lock has not been tried yet.
    Unknown,
    /// This process holds the lock.
    Held(OwnedFd),
    /// Another process holds the lock; this one serves what the other writes.
    HeldElsewhere,
    /// The lock cannot be created, as on a read-only disk. This process orders certificates nevertheless.
    Impossible,
}

// === impl AcmeClient ===

impl AcmeClient {
    /// Creates the state. An inherited `lock` makes this process the one that orders.
    pub(crate) fn new(
        ca: CaConfig,
        store: RetryingStore,
        issued: Arc<IssuedCerts>,
        metrics: Arc<Metrics>,
        until_issued: UntilIssued,
        retry: Duration,
        lock: Option<OwnedFd>,
    ) -> Self {
        AcmeClient {
            ca: Arc::new(ca),
            store,
            issued,
            metrics,
            until_issued,
            retry,
            lock: Mutex::new(lock.map_or(LockState::Unknown, LockState::Held)),
            order_slots: Semaphore::new(MAX_CONCURRENT_ORDERS),
            account: tokio::sync::Mutex::default(),
        }
    }

    pub(crate) fn now(&self) -> i64 {
        self.ca.clock.now()
    }

    /// Waits for one of [`MAX_CONCURRENT_ORDERS`] permits.
    pub(crate) async fn order_slot(&self) -> SemaphorePermit<'_> {
        let slot = self.order_slots.acquire().await;
        slot.expect("the semaphore is never closed")
    }

    /// Tries to take the lock. Returns true if this process orders certificates.
    pub(crate) fn try_become_leader(&self) -> bool {
        let mut state = self.lock.lock().unwrap_or_else(PoisonError::into_inner);
        if matches!(*state, LockState::Held(_)) {
            return true;
        }
        let result = self.store.lock();
        *state = self.next_state(&state, result);
        !matches!(*state, LockState::HeldElsewhere)
    }

    /// Returns another descriptor of the lock, if this process holds it. The lock is held as long as a descriptor is
    /// open.
    pub(crate) fn lock(&self) -> Option<io::Result<OwnedFd>> {
        match &*self.lock.lock().unwrap_or_else(PoisonError::into_inner) {
            LockState::Held(lock) => Some(lock.try_clone()),
            _ => None,
        }
    }

    fn next_state(&self, before: &LockState, result: io::Result<Option<OwnedFd>>) -> LockState {
        let location = self.store.location();
        match (result, before) {
            (Ok(Some(lock)), before) => {
                if let LockState::HeldElsewhere = before {
                    info!(%location, "the other process has released the store; this process now orders certificates");
                }
                LockState::Held(lock)
            }
            (Ok(None), before) => {
                if !matches!(before, LockState::HeldElsewhere) {
                    warn!(%location, "another process manages the certificates; this process only serves them");
                }
                LockState::HeldElsewhere
            }
            // The other process is assumed to still hold the lock.
            (Err(_), LockState::HeldElsewhere) => LockState::HeldElsewhere,
            (Err(error), before) => {
                if !matches!(before, LockState::Impossible) {
                    error!(%location, %error, "cannot write to the certificate store; certificates are kept in memory only and lost when lockgate ends");
                }
                LockState::Impossible
            }
        }
    }

    /// Returns the account key, which is created once even with concurrent callers.
    pub(crate) async fn account(&self) -> Result<Arc<[u8]>, AcmeError> {
        let mut account = self.account.lock().await;
        if let Some(key) = &*account {
            return Ok(key.clone());
        }
        let key = key(&self.ca, &self.store).await?;
        *account = Some(key.clone());
        Ok(key)
    }

    /// Returns the current errors of the store and the clock, if there are any.
    pub(crate) fn last_error(&self) -> Option<String> {
        let errors = self
            .store
            .last_error()
            .into_iter()
            .chain(self.ca.clock.warning());
        errors.reduce(|one, other| format!("{one}; {other}"))
    }
}

/// Returns the account key in PKCS #8: the stored one, or a new one. A new key is saved before it is used. Only with
/// external account binding the account is created first and its key saved afterwards ([`bind`]).
async fn key(ca: &CaConfig, store: &RetryingStore) -> Result<Arc<[u8]>, AcmeError> {
    let unreadable = |source| AcmeError::Store {
        location: store.location(),
        source,
    };
    if let Some(stored) = store.load(FILE).map_err(unreadable)? {
        match pem::parse_pkcs8_key(&stored) {
            Ok(Some(key)) if Key::from_pkcs8_der(key.clone_key()).is_ok() => {
                return Ok(key.secret_pkcs8_der().into());
            }
            _ => store.quarantine(FILE, "it is not an account key; a new account is created"),
        }
    }
    let der = match &ca.eab {
        None => KeyPair::generate().map_err(GenerateError::from)?,
        // The library creates a bound account together with its key.
        Some(_) => bind(ca).await?,
    };
    store.save(FILE, der.serialize_pem().as_bytes());
    info!(folder = %store.location(), "created an ACME account key");
    Ok(der.serialize_der().into())
}

/// Creates an account that is bound to an existing account at the CA (external account binding, RFC 8555 §7.3.4).
async fn bind(ca: &CaConfig) -> Result<KeyPair, AcmeError> {
    let eab = ca.eab.as_ref().map(|eab| {
        let hmac = URL_SAFE_NO_PAD.decode(eab.hmac.expose().trim_end_matches('='));
        ExternalAccountKey::new(eab.kid.clone(), &hmac.unwrap_or_default())
    });
    let contact: Vec<&str> = ca.contact.iter().map(String::as_str).collect();
    let new_account = NewAccount {
        contact: &contact,
        terms_of_service_agreed: true,
        only_return_existing: false,
    };
    let created = Account::builder_with_http(Box::new(ca.https.clone()))
        .create(&new_account, ca.directory.clone(), eab.as_ref())
        .await;
    let (_, credentials) = created.map_err(|error| acme_error(error, ca))?;
    let key = KeyPair::try_from(credentials.private_key().secret_pkcs8_der());
    Ok(key.map_err(GenerateError::from)?)
}

/// Converts an error of `instant-acme`. The last `Retry-After` of the CA delays the next order after a rate limit
/// or a status from 500.
pub(crate) fn acme_error(error: Error, ca: &CaConfig) -> AcmeError {
    let now = ca.clock.now();
    match error {
        Error::Api(problem) => {
            let status = problem.status;
            let failure = AcmeError::from_problem(problem.into(), status, now);
            failure.with_retry_after(ca.https.retry_after(), now)
        }
        other => AcmeError::Unreachable(TransportError::InstantAcme(other)),
    }
}

/// Logs in with this key. Without external account binding a missing account is created; a bound account must exist.
pub(crate) async fn log_in(ca: &CaConfig, key: &[u8]) -> Result<Account, Error> {
    let der = PrivatePkcs8KeyDer::from(key.to_vec());
    let key = Key::from_pkcs8_der(der.clone_key())?;
    let key = (key, PrivateKeyDer::Pkcs8(der));
    let builder = Account::builder_with_http(Box::new(ca.https.clone()));
    let directory = ca.directory.clone();
    let found = match &ca.eab {
        None => builder.create_from_key(key, directory).await,
        Some(_) => builder.from_key(key, directory).await,
    };
    found.map(|(account, _)| account)
}

/// The maximum number of concurrent orders: CAs limit pending orders, and each order costs CPU time.
const MAX_CONCURRENT_ORDERS: usize = 4;

/// The file name of the account key in the store.
const FILE: &str = "account.pem";
