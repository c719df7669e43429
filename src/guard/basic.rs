//! User names and passwords (RFC 7617), verified by a file of hashes.
//!
//! Browsers send them with every request, so verified ones are kept for a minute, under a keyed hash. Concurrent
//! requests with the same credentials wait for one verification.

use crate::{
    config::{self, Diagnostic, Located},
    fs,
    guard::{
        Denial, DenialReason,
        authorization::{AuthRequest, AuthServices, Authorized},
        htpasswd::{MAX_NAME_LEN, UserFile},
        password_checks::{ATTEMPT_INTERVAL, CheckLimit, CheckPermit, PasswordChecks},
    },
    net::random::random_bytes,
    registry::identity::SessionIdentity,
};
use ::http::{HeaderMap, HeaderName, HeaderValue, StatusCode, header};
use aws_lc_rs::hmac;
use base64::{Engine, prelude::BASE64_STANDARD};
use std::{
    collections::HashMap,
    fmt,
    sync::{Arc, LazyLock, Mutex, MutexGuard, PoisonError},
    time::Duration,
};
use tokio::{
    sync::watch,
    time::{Instant, timeout},
};

/// A guard that admits the users of a file.
pub(crate) struct BasicGuard {
    users: Arc<UserFile>,
    /// The keyed hash of the file.
    content: CredentialKey,
    challenge: HeaderValue,
    /// The header with the user name for the backend.
    header: Option<HeaderName>,
    verified: Arc<VerifiedCredentials>,
}

/// The credentials of a request.
#[derive(PartialEq, Eq)]
struct Credentials {
    user: String,
    password: Vec<u8>,
}

/// Why a request has no usable credentials.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum NoCredentials {
    Absent,
    Malformed,
}

/// A hash of credentials with a key of this process.
type CredentialKey = [u8; 32];

/// The credentials that have been verified, and those that are being verified.
#[derive(Debug, Default)]
struct VerifiedCredentials {
    state: Mutex<CredentialTable>,
}

#[derive(Debug, Default)]
struct CredentialTable {
    /// At most [`MAX_VERIFIED`].
    verified: HashMap<CredentialKey, Instant>,
    /// Bounded by the queue of [`PasswordChecks`].
    pending: HashMap<CredentialKey, watch::Receiver<Verdict>>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Verdict {
    Pending,
    Right,
    Wrong,
}

/// A verification; it is no longer pending after the drop.
struct PendingCheck {
    table: Arc<VerifiedCredentials>,
    key: CredentialKey,
    verdict: watch::Sender<Verdict>,
}

// === impl BasicGuard ===

impl BasicGuard {
    /// Builds the guard, and reads its file. Returns `None` after an error.
    pub(crate) fn build(
        basic: &Located<config::Basic>,
        previous: Option<&BasicGuard>,
        diagnostics: &mut Vec<Diagnostic>,
    ) -> Option<BasicGuard> {
        // `check` has reported the absence.
        let file = basic.users.as_ref()?;
        let header: Option<HeaderName> = basic.header.parse().ok();
        let shown = file.value.display();
        let mut refuse = |message: String, hint: &str| {
            diagnostics.push(Diagnostic {
                at: file.at,
                message,
                hint: Some(hint.to_owned()),
            });
        };
        let bytes = match fs::read(&file.value, MAX_FILE_LEN) {
            Ok(bytes) => bytes,
            Err(error) => {
                refuse(
                    error.to_string(),
                    "make the file with `htpasswd -B -c FILE NAME`",
                );
                return None;
            }
        };
        let users = match UserFile::parse(&bytes, header.is_some()) {
            Ok(users) => users,
            Err(error) => {
                refuse(format!("{shown}: {error}"), error.error.hint());
                return None;
            }
        };
        let content = keyed_hash(&[&bytes]);
        // The same file: a reload for another reason must not cost a hash per user.
        let unchanged = previous.filter(|previous| previous.content == content);
        let challenge = format!("Basic realm=\"{}\", charset=\"UTF-8\"", basic.realm);
        Some(BasicGuard {
            users: Arc::new(users),
            content,
            // `check` has refused other characters.
            challenge: challenge.try_into().ok()?,
            header,
            verified: unchanged.map_or_else(Arc::default, |previous| previous.verified.clone()),
        })
    }

    /// Returns what the guard decides about a request with these headers, for `lockgate explain`. Neither counts an
    /// attempt nor keeps the credentials. Blocks for the time of a hash.
    pub(crate) fn explain(&self, headers: &HeaderMap) -> String {
        let refused = match Credentials::of(headers) {
            Err(NoCredentials::Absent) => ABSENT,
            Err(NoCredentials::Malformed) => MALFORMED,
            Ok(it) if !self.users.has(&it.user) => "the file of users has no such user",
            Ok(it) if self.users.verify(&it.user, &it.password) => {
                return format!("admits {}", it.user);
            }
            Ok(_) => "the password is wrong",
        };
        format!("refuses with 401: {refused}")
    }

    /// Verifies the credentials of a request.
    pub(crate) async fn authorize(
        &self,
        request: &AuthRequest<'_>,
        services: &AuthServices,
        authorized: &mut Authorized,
    ) -> Result<(), Denial> {
        let credentials = Credentials::of(request.headers).map_err(|error| {
            self.unauthorized(match error {
                NoCredentials::Absent => ABSENT,
                NoCredentials::Malformed => MALFORMED,
            })
        })?;
        let key = credentials.key();
        let user = credentials.user.clone();
        if !self.verified.lock().is_verified(&key) {
            self.verify(credentials, key, request, services).await?;
        }
        // The password is for Lockgate.
        authorized.removed.push(header::AUTHORIZATION);
        if let Some(name) = &self.header {
            authorized.removed.push(name.clone());
            // The names in the file are printable ASCII.
            let value = HeaderValue::try_from(&user);
            let value = value.map_err(|_| self.unauthorized(WRONG))?;
            authorized.added.push((name.clone(), value));
        }
        authorized.identify(SessionIdentity::new(&user));
        Ok(())
    }

    async fn verify(
        &self,
        credentials: Credentials,
        key: CredentialKey,
        request: &AuthRequest<'_>,
        services: &AuthServices,
    ) -> Result<(), Denial> {
        let mut verdict = self.start(credentials, key, request, services)?;
        let waited = timeout(MAX_WAIT, verdict.wait_for(|it| *it != Verdict::Pending));
        match waited.await {
            Ok(Ok(verdict)) if *verdict == Verdict::Right => Ok(()),
            Ok(Ok(_)) => Err(self.unauthorized(WRONG)),
            // The verification has panicked, or waits for others.
            Ok(Err(_)) | Err(_) => Err(too_many(CheckLimit::Queue)),
        }
    }

    /// Starts a verification, unless one of the same credentials is pending. It continues if the client disconnects.
    fn start(
        &self,
        credentials: Credentials,
        key: CredentialKey,
        request: &AuthRequest<'_>,
        services: &AuthServices,
    ) -> Result<watch::Receiver<Verdict>, Denial> {
        let mut table = self.verified.lock();
        if let Some(pending) = table.pending.get(&key) {
            return Ok(pending.clone());
        }
        let permit = services.passwords.begin(request.client).map_err(too_many)?;
        let (sender, receiver) = watch::channel(Verdict::Pending);
        table.pending.insert(key, receiver.clone());
        drop(table);
        let check = PendingCheck {
            table: self.verified.clone(),
            key,
            verdict: sender,
        };
        let (users, passwords) = (self.users.clone(), services.passwords.clone());
        services
            .tasks
            .spawn(check.run(permit, passwords, users, credentials));
        Ok(receiver)
    }

    fn unauthorized(&self, text: &'static str) -> Denial {
        let denial = Denial::new(StatusCode::UNAUTHORIZED, DenialReason::Basic, text);
        denial.with(header::WWW_AUTHENTICATE, self.challenge.clone())
    }
}

impl fmt::Debug for BasicGuard {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("BasicGuard")
            .field("header", &self.header)
            .finish_non_exhaustive()
    }
}

fn too_many(limit: CheckLimit) -> Denial {
    let (text, seconds) = match limit {
        CheckLimit::Attempts => (
            "too many failed attempts from this address, try again later",
            ATTEMPT_INTERVAL.as_secs(),
        ),
        CheckLimit::Queue => ("too many passwords are being verified, try again later", 2),
    };
    let denial = Denial::new(StatusCode::TOO_MANY_REQUESTS, DenialReason::Basic, text);
    denial.with(header::RETRY_AFTER, HeaderValue::from(seconds))
}

// === impl Credentials ===

impl Credentials {
    /// Returns the credentials of a request. Headers of other schemes are for other guards; two different ones are
    /// malformed.
    fn of(headers: &HeaderMap) -> Result<Credentials, NoCredentials> {
        let mut found: Option<Credentials> = None;
        for value in headers.get_all(header::AUTHORIZATION) {
            let value = value.as_bytes();
            let Some((scheme, encoded)) = value.split_at_checked("Basic ".len()) else {
                continue;
            };
            if !scheme.eq_ignore_ascii_case(b"Basic ") {
                continue;
            }
            let credentials = Credentials::parse(encoded).ok_or(NoCredentials::Malformed)?;
            if found.as_ref().is_some_and(|found| *found != credentials) {
                return Err(NoCredentials::Malformed);
            }
            found = Some(credentials);
        }
        found.ok_or(NoCredentials::Absent)
    }

    fn parse(encoded: &[u8]) -> Option<Credentials> {
        let encoded = encoded.trim_ascii();
        if encoded.len() > MAX_ENCODED_LEN {
            return None;
        }
        let decoded = BASE64_STANDARD.decode(encoded).ok()?;
        // RFC 7617 §2.1: UTF-8, as the challenge demands; control characters are not allowed.
        let text = String::from_utf8(decoded).ok()?;
        let (user, password) = text.split_once(':')?;
        let is_usable = user.len() <= MAX_NAME_LEN && !text.chars().any(char::is_control);
        is_usable.then(|| Credentials {
            user: user.to_owned(),
            password: password.as_bytes().to_owned(),
        })
    }

    fn key(&self) -> CredentialKey {
        // A user name has no colon.
        keyed_hash(&[self.user.as_bytes(), b":", &self.password])
    }
}

/// Returns a hash with a key that only this process has.
fn keyed_hash(parts: &[&[u8]]) -> CredentialKey {
    static KEY: LazyLock<hmac::Key> =
        LazyLock::new(|| hmac::Key::new(hmac::HMAC_SHA256, &random_bytes::<32>()));
    let mut context = hmac::Context::with_key(&KEY);
    for part in parts {
        context.update(part);
    }
    let tag = context.sign();
    tag.as_ref().try_into().expect("SHA-256 has 32 bytes")
}

// === impl VerifiedCredentials ===

impl VerifiedCredentials {
    fn lock(&self) -> MutexGuard<'_, CredentialTable> {
        // The table is consistent after every statement, so a poisoned lock is used anyway.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl CredentialTable {
    fn is_verified(&self, key: &CredentialKey) -> bool {
        let at = self.verified.get(key);
        at.is_some_and(|at| at.elapsed() < KEPT_FOR)
    }

    fn keep(&mut self, key: CredentialKey) {
        if self.verified.len() >= MAX_VERIFIED {
            self.verified.retain(|_, at| at.elapsed() < KEPT_FOR);
        }
        if self.verified.len() >= MAX_VERIFIED {
            self.verified.clear();
        }
        self.verified.insert(key, Instant::now());
    }
}

// === impl PendingCheck ===

impl PendingCheck {
    async fn run(
        self,
        permit: CheckPermit,
        passwords: Arc<PasswordChecks>,
        users: Arc<UserFile>,
        credentials: Credentials,
    ) {
        let verify = move || users.verify(&credentials.user, &credentials.password);
        let is_right = passwords.run(permit, verify).await;
        if is_right == Some(true) {
            self.table.lock().keep(self.key);
        }
        if let Some(is_right) = is_right {
            self.verdict.send_replace(if is_right {
                Verdict::Right
            } else {
                Verdict::Wrong
            });
        }
    }
}

impl Drop for PendingCheck {
    fn drop(&mut self) {
        self.table.lock().pending.remove(&self.key);
    }
}

const ABSENT: &str = "this route needs a user name and a password";

const MALFORMED: &str = "the user name and password are malformed";

const WRONG: &str = "the user name or the password is wrong";

const MAX_FILE_LEN: u64 = 1024 * 1024;

/// In bytes, of base64.
const MAX_ENCODED_LEN: usize = 4096;

/// How long verified credentials are kept.
const KEPT_FOR: Duration = Duration::from_secs(60);

/// 40 bytes each.
const MAX_VERIFIED: usize = 4096;

/// How long a request waits for the verification of its password.
const MAX_WAIT: Duration = Duration::from_secs(10);

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        guard::authorization::BearerToken, lifecycle::tasks::Tasks, net::resolver::Resolver,
    };
    use ::http::Method;
    use tokio::time::{advance, pause};

    /// A guard with one user, "anna", whose password is "x".
    fn guard() -> BasicGuard {
        let text = "anna:$2b$04$nDhbx85eArCso/8L2/ysuOc6nXn/IoRPeK74h0.glBeXT7lFfWBLW";
        BasicGuard {
            users: Arc::new(UserFile::parse(text.as_bytes(), true).unwrap()),
            content: [0; 32],
            challenge: HeaderValue::from_static("Basic"),
            header: None,
            verified: Arc::default(),
        }
    }

    async fn status(
        guard: &BasicGuard,
        services: &AuthServices,
        user: &str,
        password: &str,
    ) -> u16 {
        let encoded = BASE64_STANDARD.encode(format!("{user}:{password}"));
        let mut headers = HeaderMap::new();
        let value = format!("Basic {encoded}").try_into().unwrap();
        headers.insert(header::AUTHORIZATION, value);
        let request = AuthRequest {
            method: &Method::GET,
            scheme: "https",
            host: "a.test",
            target: "/",
            client: [192, 0, 2, 1].into(),
            is_handshake: false,
            headers: &headers,
            token: BearerToken::Absent,
        };
        let mut authorized = Authorized::default();
        match guard.authorize(&request, services, &mut authorized).await {
            Ok(()) => 200,
            Err(denial) => denial.status.as_u16(),
        }
    }

    #[tokio::test]
    async fn unknown_user_costs_one_hash_and_verified_credentials_cost_none_for_a_minute() {
        let services = AuthServices::new(Tasks::default(), Resolver::system());
        let hashes = || services.passwords.hashes();
        let guard = guard();
        assert_eq!(status(&guard, &services, "anna", "y").await, 401);
        assert_eq!(hashes(), 1);
        assert_eq!(status(&guard, &services, "unknown", "x").await, 401);
        assert_eq!(hashes(), 2);
        for _ in 0..20 {
            assert_eq!(status(&guard, &services, "anna", "x").await, 200);
        }
        assert_eq!(hashes(), 3);
        // A wrong password is not kept.
        assert_eq!(status(&guard, &services, "anna", "y").await, 401);
        assert_eq!(hashes(), 4);
        pause();
        advance(KEPT_FOR).await;
        assert_eq!(status(&guard, &services, "anna", "x").await, 200);
        assert_eq!(hashes(), 5);
        assert!(guard.verified.lock().pending.is_empty());
    }

    #[tokio::test]
    async fn concurrent_requests_with_the_same_credentials_cost_one_hash() {
        let services = AuthServices::new(Tasks::default(), Resolver::system());
        let guard = guard();
        for (password, expected, hashes) in [("x", 200, 1), ("y", 401, 2)] {
            let all = (0..50).map(|_| status(&guard, &services, "anna", password));
            let all = futures_util::future::join_all(all).await;
            assert_eq!(all, [expected; 50]);
            assert_eq!(services.passwords.hashes(), hashes);
        }
    }

    #[tokio::test(start_paused = true)]
    async fn table_of_verified_credentials_is_bounded() {
        let guard = guard();
        let mut table = guard.verified.lock();
        for number in 0..3 * MAX_VERIFIED {
            table.keep(keyed_hash(&[&number.to_be_bytes()]));
            assert!(table.verified.len() <= MAX_VERIFIED);
        }
    }
}
