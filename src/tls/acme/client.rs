//! State shared by all hosts: the CA, the store and its lock, the account at the CA, and the limit on concurrent
//! orders.

use crate::{
    config::UntilIssued,
    fs::deadline,
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
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};
use tokio::{
    sync::{Semaphore, SemaphorePermit},
    task::JoinError,
};
use tracing::{error, info, warn};

pub(crate) struct AcmeClient {
    pub(crate) ca: Arc<CaConfig>,
    /// Blocks. Tasks use it by [`AcmeClient::with_store`].
    pub(crate) store: RetryingStore,
    pub(crate) issued: Arc<IssuedCerts>,
    pub(crate) metrics: Arc<Metrics>,
    pub(crate) until_issued: UntilIssued,
    /// The delay after a first failure.
    pub(crate) retry: Duration,
    /// Not held during a call of the store.
    lock: Mutex<LockState>,
    /// Held by the only task whose call of the store runs, until that call returns.
    store_turn: Arc<tokio::sync::Mutex<()>>,
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
            store_turn: Arc::default(),
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

    /// Runs `work`, which uses the store, on a blocking thread. Tasks use the store one after another: if it hangs, one
    /// thread hangs and is reported, and the tasks wait without a thread. If this future is dropped, `work` continues.
    ///
    /// # Errors
    /// Fails if `work` panics, or while the runtime shuts down.
    pub(crate) async fn with_store<T: Send + 'static>(
        self: &Arc<Self>,
        work: impl FnOnce(&AcmeClient) -> T + Send + 'static,
    ) -> Result<T, JoinError> {
        let turn = self.store_turn.clone().lock_owned().await;
        let client = self.clone();
        let call = deadline::unbounded(move || {
            let _turn = turn;
            work(&client)
        });
        call.await
    }

    /// Tries to take the lock. Returns true if this process orders certificates.
    pub(crate) async fn try_become_leader(self: &Arc<Self>) -> bool {
        // The process that holds the lock already does not use the store.
        if self.holds_lock() {
            return true;
        }
        let acquired = self.with_store(AcmeClient::acquire_lock).await;
        acquired.unwrap_or_default()
    }

    /// Tries to take the lock if another task has not taken it in the meantime. Returns true if this process orders
    /// certificates. May block.
    fn acquire_lock(&self) -> bool {
        if self.holds_lock() {
            return true;
        }
        let result = self.store.lock();
        let mut state = self.lock_state();
        *state = self.next_state(&state, result);
        !matches!(*state, LockState::HeldElsewhere)
    }

    fn holds_lock(&self) -> bool {
        matches!(*self.lock_state(), LockState::Held(_))
    }

    /// Returns another descriptor of the lock, if this process holds it. The lock is held as long as a descriptor is
    /// open.
    pub(crate) fn lock(&self) -> Option<io::Result<OwnedFd>> {
        match &*self.lock_state() {
            LockState::Held(lock) => Some(lock.try_clone()),
            _ => None,
        }
    }

    fn lock_state(&self) -> MutexGuard<'_, LockState> {
        self.lock.lock().unwrap_or_else(PoisonError::into_inner)
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
    pub(crate) async fn account(self: &Arc<Self>) -> Result<Arc<[u8]>, AcmeError> {
        let mut account = self.account.lock().await;
        if let Some(key) = &*account {
            return Ok(key.clone());
        }
        let key = key(self).await?;
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
async fn key(client: &Arc<AcmeClient>) -> Result<Arc<[u8]>, AcmeError> {
    let unreadable = |source| AcmeError::Store {
        location: client.store.location(),
        source,
    };
    let stored = client.with_store(|client| stored_key(&client.store)).await;
    let stored = stored.map_err(io::Error::other).flatten();
    if let Some(key) = stored.map_err(unreadable)? {
        return Ok(key);
    }
    let der = match &client.ca.eab {
        None => KeyPair::generate().map_err(GenerateError::from)?,
        // The library creates a bound account together with its key.
        Some(_) => bind(&client.ca).await?,
    };
    let pem = der.serialize_pem();
    let saved = client.with_store(move |client| client.store.save(FILE, pem.as_bytes()));
    saved.await.map_err(io::Error::other).map_err(unreadable)?;
    info!(folder = %client.store.location(), "created an ACME account key");
    Ok(der.serialize_der().into())
}

/// Returns the stored account key; an unusable one is quarantined. May block.
fn stored_key(store: &RetryingStore) -> io::Result<Option<Arc<[u8]>>> {
    let Some(stored) = store.load(FILE)? else {
        return Ok(None);
    };
    match pem::parse_pkcs8_key(&stored) {
        Ok(Some(key)) if Key::from_pkcs8_der(key.clone_key()).is_ok() => {
            Ok(Some(key.secret_pkcs8_der().into()))
        }
        _ => {
            let reason = "it is not an account key; a new account is created";
            store.quarantine(FILE, reason);
            Ok(None)
        }
    }
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        net::{resolver::Resolver, tls_client, web_client::WebClient},
        store::Store,
        tls::acme::schedule::CaClock,
    };
    use std::sync::{
        atomic::{AtomicUsize, Ordering},
        mpsc,
    };
    use tokio::time::timeout;

    /// A store whose lock hangs until the sender of `released` is dropped, and then belongs to another process.
    #[derive(Debug)]
    struct HungStore {
        calls: Arc<AtomicUsize>,
        released: Mutex<mpsc::Receiver<()>>,
    }

    impl Store for HungStore {
        fn load(&self, _: &str) -> io::Result<Option<Vec<u8>>> {
            Ok(None)
        }

        fn save(&self, _: &str, _: &[u8]) -> io::Result<()> {
            Ok(())
        }

        fn quarantine(&self, name: &str) -> io::Result<String> {
            Ok(name.to_owned())
        }

        fn lock(&self) -> io::Result<Option<OwnedFd>> {
            self.calls.fetch_add(1, Ordering::Relaxed);
            let released = self.released.lock().unwrap();
            let _ = released.recv_timeout(Duration::from_secs(20));
            Ok(None)
        }

        fn location(&self) -> String {
            "/mnt/hung".to_owned()
        }
    }

    fn client(store: impl Store + 'static) -> Arc<AcmeClient> {
        let tls = tls_client::client_config(Arc::new(rustls::RootCertStore::empty()));
        let ca = CaConfig {
            directory: "https://ca.test/dir".to_owned(),
            contact: Vec::new(),
            eab: None,
            dns: None,
            https: WebClient::new(tls.clone(), Resolver::system()),
            tls,
            clock: CaClock::default(),
            txt_record_locks: Mutex::default(),
        };
        Arc::new(AcmeClient::new(
            ca,
            RetryingStore::new(Box::new(store)),
            Arc::default(),
            Arc::new(Metrics::new()),
            UntilIssued::SelfSigned,
            Duration::from_secs(1),
            None,
        ))
    }

    // On one thread, which any blocking call would stop.
    #[tokio::test]
    async fn hung_store_blocks_one_thread_and_no_task() {
        let (release, released) = mpsc::channel::<()>();
        let calls = Arc::<AtomicUsize>::default();
        let client = client(HungStore {
            calls: calls.clone(),
            released: Mutex::new(released),
        });
        let leaders =
            async { tokio::join!(client.try_become_leader(), client.try_become_leader()) };
        let others = async {
            let wait = Duration::from_millis(100);
            assert!(timeout(wait, client.try_become_leader()).await.is_err());
            // As for the offer of a takeover.
            assert!(client.lock().is_none());
            assert_eq!(calls.load(Ordering::Relaxed), 1);
            drop(release);
        };
        let (leaders, ()) = tokio::join!(leaders, others);
        assert_eq!(leaders, (false, false));
        assert!(!client.try_become_leader().await);
        assert_eq!(calls.load(Ordering::Relaxed), 3);
    }
}
