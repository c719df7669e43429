//! Key sets of issuers (RFC 7517): read from a file, or fetched and kept.
//!
//! A fetch never delays a request whose key is known. A set is fetched again when it is older than [`REFRESH_AFTER`],
//! and when a token names an unknown key, at most once in [`FETCH_INTERVAL`]; the last good set stays valid for
//! [`MAX_AGE`] while the issuer does not answer.

use crate::{
    guard::{authorization::AuthServices, unique_json::UniqueJson},
    net::web_client::{WebClient, WebClientError},
    observe::{log_throttle::KeyedLogThrottle, logging::ErrorChain},
};
use ::http::{Request, StatusCode, Uri, header};
use bytes::Bytes;
use jsonwebtoken::{
    Algorithm, AlgorithmFamily, DecodingKey,
    jwk::{Jwk, KeyOperations, PublicKeyUse},
};
use rustls::ClientConfig;
use serde_json::Value;
use std::{
    fmt,
    sync::{Arc, LazyLock, Mutex, MutexGuard, PoisonError},
    time::Duration,
};
use tokio::{
    sync::watch,
    time::{Instant, timeout},
};
use tracing::{info, warn};

/// The public keys of an issuer.
#[derive(Debug)]
pub(crate) struct KeySet {
    keys: Vec<VerificationKey>,
}

struct VerificationKey {
    kid: Option<Box<str>>,
    /// The only algorithm that the key may be used with, if the set names one.
    algorithm: Option<Box<str>>,
    key: DecodingKey,
}

/// Where a key set is fetched from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum KeySetUrl {
    /// The URL of the set.
    Set(String),
    /// The issuer, whose discovery document names the URL (OpenID Connect Discovery 1.0 §4).
    Issuer(String),
}

/// A key set that is fetched.
#[derive(Debug)]
pub(crate) struct RemoteKeySet {
    /// The guard, for log lines.
    guard: Arc<str>,
    url: KeySetUrl,
    tls: Arc<ClientConfig>,
    state: Mutex<FetchState>,
    /// The number of fetches that have ended.
    ended: watch::Sender<u64>,
}

#[derive(Debug, Default)]
struct FetchState {
    set: Option<(Arc<KeySet>, Instant)>,
    /// When the last fetch began.
    begun: Option<Instant>,
    /// When the last fetch began because of an unknown key.
    begun_for_key: Option<Instant>,
    is_active: bool,
}

/// Marks a fetch as ended on drop, also after a panic.
struct FetchGuard(Arc<RemoteKeySet>);

/// Why a key set cannot be used.
#[derive(Debug, thiserror::Error)]
pub(crate) enum KeySetError {
    #[error(transparent)]
    Request(#[from] WebClientError),
    #[error("`{0}` is not a URL")]
    Url(String),
    #[error("{url} answered {status}")]
    Status { url: String, status: StatusCode },
    #[error("{0} has more than {limit} bytes", limit = MAX_SET_LEN)]
    TooLarge(String),
    #[error("{0} is not JSON, or an object in it has two members of the same name")]
    Json(String),
    #[error("{0} has no `keys`: is it a JSON Web Key Set (RFC 7517)?")]
    NoKeys(String),
    #[error("{0} has no public key that can verify signatures")]
    NoUsableKey(String),
    #[error("{document} is the document of the issuer `{found}`, and not of `{expected}`")]
    Issuer {
        document: String,
        found: String,
        expected: String,
    },
    #[error("{0} has no `jwks_uri`")]
    NoJwksUri(String),
    #[error("{0} names a key set without TLS, although the issuer has an https:// URL")]
    Cleartext(String),
}

// === impl KeySet ===

impl KeySet {
    /// Parses a set. Keys that cannot verify signatures are left out. `name` is in errors.
    pub(crate) fn parse(json: &[u8], name: &str) -> Result<KeySet, KeySetError> {
        if json.len() > MAX_SET_LEN {
            return Err(KeySetError::TooLarge(name.to_owned()));
        }
        let document = parse_json(json, name)?;
        let Some(Value::Array(list)) = document.get("keys") else {
            return Err(KeySetError::NoKeys(name.to_owned()));
        };
        let keys = list
            .iter()
            .take(MAX_KEYS)
            .filter_map(VerificationKey::parse);
        let keys: Vec<VerificationKey> = keys.collect();
        if keys.is_empty() {
            return Err(KeySetError::NoUsableKey(name.to_owned()));
        }
        Ok(KeySet { keys })
    }

    /// Returns the keys that can have signed a token: those with its `kid`, or all if it names none.
    pub(crate) fn matching(
        &self,
        kid: Option<&str>,
        algorithm: Algorithm,
    ) -> impl Iterator<Item = &DecodingKey> {
        let name = format!("{algorithm:?}");
        let keys = self.keys.iter().filter(move |key| {
            (kid.is_none() || key.kid.as_deref() == kid)
                && key.key.family() == algorithm.family()
                && key.algorithm.as_deref().is_none_or(|only| only == name)
        });
        keys.take(MAX_ATTEMPTS).map(|key| &key.key)
    }

    fn knows(&self, kid: Option<&str>) -> bool {
        kid.is_none() || self.keys.iter().any(|key| key.kid.as_deref() == kid)
    }
}

// === impl VerificationKey ===

impl VerificationKey {
    fn parse(value: &Value) -> Option<VerificationKey> {
        let jwk: Jwk = serde_json::from_value(value.clone()).ok()?;
        let common = &jwk.common;
        let is_for_signatures = common
            .public_key_use
            .as_ref()
            .is_none_or(|it| *it == PublicKeyUse::Signature);
        let verifies = common
            .key_operations
            .as_ref()
            .is_none_or(|all| all.contains(&KeyOperations::Verify));
        let key = DecodingKey::from_jwk(&jwk).ok()?;
        // A shared secret in a public set would let every reader sign.
        let is_public = key.family() != AlgorithmFamily::Hmac;
        (is_for_signatures && verifies && is_public).then(|| VerificationKey {
            kid: common.key_id.as_deref().map(Into::into),
            algorithm: value.get("alg").and_then(Value::as_str).map(Into::into),
            key,
        })
    }
}

impl fmt::Debug for VerificationKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("VerificationKey")
            .field("kid", &self.kid)
            .field("algorithm", &self.algorithm)
            .finish_non_exhaustive()
    }
}

// === impl RemoteKeySet ===

impl RemoteKeySet {
    /// Creates the set. What `previous` has fetched from the same URL stays in use.
    pub(crate) fn new(
        guard: Arc<str>,
        url: KeySetUrl,
        tls: Arc<ClientConfig>,
        previous: Option<&RemoteKeySet>,
    ) -> RemoteKeySet {
        let previous = previous.filter(|previous| previous.url == url);
        let set = previous.and_then(|previous| previous.lock().set.clone());
        RemoteKeySet {
            guard,
            url,
            tls,
            state: Mutex::new(FetchState {
                set,
                ..FetchState::default()
            }),
            ended: watch::Sender::new(0),
        }
    }

    /// Describes where the set comes from.
    pub(crate) fn url(&self) -> String {
        match &self.url {
            KeySetUrl::Set(url) => format!("the key set {url}"),
            KeySetUrl::Issuer(issuer) => format!("the key set of {issuer}"),
        }
    }

    /// Returns the set in which `kid` is to be looked up; fetches it first if it is missing, or does not have the key.
    /// `None`: no set has been fetched.
    pub(crate) async fn for_key(
        self: &Arc<Self>,
        kid: Option<&str>,
        services: &AuthServices,
    ) -> Option<Arc<KeySet>> {
        let mut ended = self.ended.subscribe();
        let is_known = self.current().is_some_and(|set| set.knows(kid));
        let is_active = self.fetch_if_due(is_known, services);
        if !is_known && is_active {
            let _ = timeout(MAX_WAIT, ended.changed()).await;
        }
        self.current()
    }

    /// Fetches the set unless it is known already.
    pub(crate) fn start(self: &Arc<Self>, services: &AuthServices) {
        self.fetch_if_due(self.current().is_some(), services);
    }

    /// Returns the last set that was fetched, unless it is too old.
    fn current(&self) -> Option<Arc<KeySet>> {
        let state = self.lock();
        let (set, fetched) = state.set.as_ref()?;
        (fetched.elapsed() < MAX_AGE).then(|| set.clone())
    }

    /// Starts a fetch if one is due. Returns whether one is active.
    fn fetch_if_due(self: &Arc<Self>, is_known: bool, services: &AuthServices) -> bool {
        let mut state = self.lock();
        if state.is_active {
            return true;
        }
        let age = state.set.as_ref().map(|(_, fetched)| fetched.elapsed());
        let is_stale = age.is_none_or(|age| age > REFRESH_AFTER);
        if is_known && !is_stale {
            return false;
        }
        let is_recent = |begun: Option<Instant>, interval| {
            begun.is_some_and(|begun: Instant| begun.elapsed() < interval)
        };
        if age.is_none() {
            // Without any set every request is refused, so that the next attempt comes sooner.
            if is_recent(state.begun, FIRST_FETCH_INTERVAL) {
                return false;
            }
        } else if is_known {
            if is_recent(state.begun, FETCH_INTERVAL) {
                return false;
            }
        } else {
            if is_recent(state.begun_for_key, FETCH_INTERVAL) {
                return false;
            }
            state.begun_for_key = Some(Instant::now());
        }
        state.begun = Some(Instant::now());
        state.is_active = true;
        drop(state);
        let (guard, resolver) = (FetchGuard(self.clone()), services.resolver.clone());
        services.tasks.spawn(async move {
            let keys = &guard.0;
            let client = WebClient::new(keys.tls.clone(), resolver).with_cleartext(FETCH_TIMEOUT);
            match keys.url.fetch(&client).await {
                Ok(set) => {
                    let count = set.keys.len();
                    let is_first = keys
                        .lock()
                        .set
                        .replace((Arc::new(set), Instant::now()))
                        .is_none();
                    if is_first {
                        info!(guard = %keys.guard, keys = count, "key set fetched");
                    }
                }
                Err(error) => keys.warn(&error),
            }
        });
        true
    }

    fn warn(&self, error: &KeySetError) {
        static THROTTLE: LazyLock<KeyedLogThrottle<Arc<str>>> =
            LazyLock::new(KeyedLogThrottle::new);
        if let Some(suppressed) = THROTTLE.allow(self.guard.clone()) {
            let error = ErrorChain(error);
            let has_set = self.current().is_some();
            warn!(guard = %self.guard, %error, suppressed, has_set, "the key set of an issuer cannot be fetched; without one, requests get 503");
        }
    }

    fn lock(&self) -> MutexGuard<'_, FetchState> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for FetchGuard {
    fn drop(&mut self) {
        self.0.lock().is_active = false;
        self.0.ended.send_modify(|ended| *ended += 1);
    }
}

// === impl KeySetUrl ===

impl KeySetUrl {
    async fn fetch(&self, client: &WebClient) -> Result<KeySet, KeySetError> {
        let url = match self {
            KeySetUrl::Set(url) => url.clone(),
            KeySetUrl::Issuer(issuer) => discover(issuer, client).await?,
        };
        let json = get(&url, client).await?;
        KeySet::parse(&json, &url)
    }
}

/// Returns the URL of the key set from the issuer's discovery document.
async fn discover(issuer: &str, client: &WebClient) -> Result<String, KeySetError> {
    let document_url = format!(
        "{}/.well-known/openid-configuration",
        issuer.trim_end_matches('/')
    );
    let json = get(&document_url, client).await?;
    let document = parse_json(&json, &document_url)?;
    let found = document.get("issuer").and_then(Value::as_str).unwrap_or("");
    // OpenID Connect Discovery 1.0 §4.3.
    if found != issuer {
        return Err(KeySetError::Issuer {
            document: document_url,
            found: found.chars().take(MAX_SHOWN).collect(),
            expected: issuer.to_owned(),
        });
    }
    let Some(url) = document.get("jwks_uri").and_then(Value::as_str) else {
        return Err(KeySetError::NoJwksUri(document_url));
    };
    if issuer.starts_with("https://") && !url.starts_with("https://") {
        return Err(KeySetError::Cleartext(document_url));
    }
    Ok(url.to_owned())
}

/// Requests a document. Redirects are not followed.
async fn get(url: &str, client: &WebClient) -> Result<Bytes, KeySetError> {
    let uri: Uri = url.parse().map_err(|_| KeySetError::Url(url.to_owned()))?;
    let request = Request::get(uri)
        .header(header::ACCEPT, "application/json")
        .body(Bytes::new())
        .map_err(|_| KeySetError::Url(url.to_owned()))?;
    let response = client.send(request).await?;
    if response.status() != StatusCode::OK {
        return Err(KeySetError::Status {
            url: url.to_owned(),
            status: response.status(),
        });
    }
    Ok(response.into_body())
}

fn parse_json(json: &[u8], name: &str) -> Result<Value, KeySetError> {
    let parsed = UniqueJson::accepts(json).then(|| serde_json::from_slice(json));
    match parsed {
        Some(Ok(value)) => Ok(value),
        _ => Err(KeySetError::Json(name.to_owned())),
    }
}

/// In bytes.
pub(crate) const MAX_SET_LEN: usize = 1024 * 1024;

const MAX_KEYS: usize = 100;

/// The keys that are tried for a token that names none.
const MAX_ATTEMPTS: usize = 8;

/// Characters of a foreign value in a log line.
const MAX_SHOWN: usize = 200;

/// The time limit of each request for a document.
const FETCH_TIMEOUT: Duration = Duration::from_secs(5);

/// How long a request waits for a fetch: two documents may be needed.
const MAX_WAIT: Duration = Duration::from_secs(11);

/// Between two fetches because of unknown keys.
const FETCH_INTERVAL: Duration = Duration::from_secs(60);

/// Between two fetches before the first one has succeeded.
const FIRST_FETCH_INTERVAL: Duration = Duration::from_secs(2);

const REFRESH_AFTER: Duration = Duration::from_secs(600);

const MAX_AGE: Duration = Duration::from_secs(24 * 3600);
