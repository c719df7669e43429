//! JSON Web Tokens (RFC 7519, RFC 8725): verifies the token of a request, and takes the identity, the headers for the
//! backend and the time limit of the session from it.

use crate::{
    config::{self, Diagnostic, JwtAlgorithm, Located, OnExpiry},
    fs,
    guard::{
        Denial, DenialReason,
        authorization::{AuthServices, Authorized, BearerToken},
        jwks::{KeySet, KeySetUrl, MAX_SET_LEN, RemoteKeySet},
        trust,
        unique_json::UniqueJson,
    },
    registry::identity::{SessionIdentity, TokenOrigin},
};
use ::http::{HeaderName, HeaderValue, StatusCode, header};
use base64::{Engine, prelude::BASE64_URL_SAFE_NO_PAD};
use jsonwebtoken::{Algorithm, DecodingKey, TokenData, Validation, errors::ErrorKind};
use serde_json::{Map, Value};
use std::{
    fmt,
    sync::Arc,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

/// A guard that admits requests with a valid token.
pub(crate) struct JwtGuard {
    name: Arc<str>,
    algorithms: Vec<Algorithm>,
    /// "": any.
    issuer: String,
    validation: Validation,
    leeway: Duration,
    required: Vec<(ClaimPath, String)>,
    headers: Vec<(HeaderName, ClaimPath)>,
    closes_on_expiry: bool,
    close_code: u16,
    /// The path at which a newer token extends sessions; "": none.
    refresh_path: String,
    keys: KeySource,
}

enum KeySource {
    Secret(DecodingKey),
    File(KeySet),
    Remote(Arc<RemoteKeySet>),
}

/// The name of a claim; a dot leads into a claim that is an object.
#[derive(Debug)]
struct ClaimPath(String);

/// The claims of a token that has passed all checks.
#[derive(Debug)]
pub(crate) struct VerifiedToken {
    claims: Map<String, Value>,
    /// `exp` with the leeway.
    expires: SystemTime,
}

/// Why a token is not accepted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(crate) enum TokenError {
    #[error("this route needs a token")]
    Missing,
    #[error("the request has two different tokens, or one with characters that no token has")]
    Ambiguous,
    #[error("the token is not a signed JSON Web Token")]
    Malformed,
    #[error("the token is signed with an algorithm that this server does not accept")]
    Algorithm,
    #[error("the token is signed with a key that its issuer does not publish")]
    UnknownKey,
    #[error("the signature of the token is wrong")]
    Signature,
    #[error("the token has expired")]
    Expired,
    #[error("the token is not valid yet")]
    Immature,
    #[error("the token is from another issuer")]
    Issuer,
    #[error("the token is for another audience")]
    Audience,
    #[error("a claim of the token is absent or has the wrong type")]
    Claim,
    #[error("the token lacks a claim that this route requires")]
    Permission,
    #[error("a claim of the token has characters that are not allowed in a header")]
    Header,
    #[error("the keys of the token's issuer are not known yet, try again later")]
    NoKeys,
}

// === impl JwtGuard ===

impl JwtGuard {
    /// Builds the guard, and reads its files. Returns `None` after an error.
    pub(crate) fn build(
        name: &Arc<str>,
        jwt: &Located<config::Jwt>,
        previous: Option<&JwtGuard>,
        diagnostics: &mut Vec<Diagnostic>,
    ) -> Option<JwtGuard> {
        let secret = jwt.secret.expose();
        let keys = if !secret.is_empty() {
            // `check` has refused a short one.
            KeySource::Secret(DecodingKey::from_secret(secret.as_bytes()).ok()?)
        } else if let Some(file) = jwt.jwks_file() {
            let shown = file.display().to_string();
            let read = fs::read(file, MAX_SET_LEN as u64).map_err(|error| error.to_string());
            let set = read
                .and_then(|json| KeySet::parse(&json, &shown).map_err(|error| error.to_string()));
            match set {
                Ok(set) => KeySource::File(set),
                Err(message) => {
                    diagnostics.push(Diagnostic {
                        at: jwt.jwks.at,
                        message,
                        hint: Some(
                            "name a file with public keys: { \"keys\": [ … ] } (RFC 7517)"
                                .to_owned(),
                        ),
                    });
                    return None;
                }
            }
        } else {
            let url = match &*jwt.jwks.value {
                "" => KeySetUrl::Issuer(jwt.issuer.clone()),
                url => KeySetUrl::Set(url.to_owned()),
            };
            let previous = previous.and_then(|previous| match &previous.keys {
                KeySource::Remote(keys) => Some(&**keys),
                _ => None,
            });
            let tls = trust::client_config(jwt.ca.as_ref(), diagnostics)?;
            KeySource::Remote(Arc::new(RemoteKeySet::new(
                name.clone(),
                url,
                tls,
                previous,
            )))
        };
        let algorithms = match (&*jwt.algorithms, &keys) {
            ([], KeySource::Secret(_)) => vec![Algorithm::HS256],
            ([], _) => vec![Algorithm::RS256, Algorithm::ES256, Algorithm::EdDSA],
            (written, _) => written.iter().map(|it| algorithm(*it)).collect(),
        };
        let headers = jwt.headers.iter().filter_map(|(header, claim)| {
            // `check` has refused other names.
            Some((header.parse().ok()?, ClaimPath(claim.clone())))
        });
        Some(JwtGuard {
            name: name.clone(),
            validation: validation(jwt),
            algorithms,
            issuer: jwt.issuer.clone(),
            leeway: jwt.leeway.0,
            required: jwt
                .required
                .iter()
                .map(|(claim, value)| (ClaimPath(claim.clone()), value.clone()))
                .collect(),
            headers: headers.collect(),
            closes_on_expiry: jwt.on_expiry == OnExpiry::Close,
            close_code: jwt.close_code,
            refresh_path: jwt.refresh_path.clone(),
            keys,
        })
    }

    /// Fetches the key set if it comes from a URL.
    pub(crate) fn start(&self, services: &AuthServices) {
        if let KeySource::Remote(keys) = &self.keys {
            keys.start(services);
        }
    }

    /// Returns whether a newer token extends sessions at this path.
    pub(crate) fn refreshes_at(&self, path: &str) -> bool {
        !self.refresh_path.is_empty() && self.refresh_path == path
    }

    /// Verifies the token of a request.
    pub(crate) async fn authorize(
        &self,
        token: BearerToken<'_>,
        services: &AuthServices,
    ) -> Result<VerifiedToken, Denial> {
        let token = match token {
            BearerToken::Present(token) => token,
            BearerToken::Absent => return Err(self.deny(TokenError::Missing)),
            BearerToken::Ambiguous => return Err(self.deny(TokenError::Ambiguous)),
        };
        let verified = self.verify(token, services).await;
        verified.map_err(|error| self.deny(error))
    }

    /// Verifies a token: its form, signature, times, issuer, audience and required claims.
    pub(crate) async fn verify(
        &self,
        token: &str,
        services: &AuthServices,
    ) -> Result<VerifiedToken, TokenError> {
        let header = self.check_form(token)?;
        let kid = header.kid.as_deref();
        match &self.keys {
            KeySource::Secret(key) => self.verify_with([key].into_iter(), header.alg, token),
            KeySource::File(set) => {
                self.verify_with(set.matching(kid, header.alg), header.alg, token)
            }
            KeySource::Remote(keys) => {
                let set = keys.for_key(kid, services).await;
                let set = set.ok_or(TokenError::NoKeys)?;
                self.verify_with(set.matching(kid, header.alg), header.alg, token)
            }
        }
    }

    /// Describes what the guard decides about a token, or would have to fetch first. It fetches nothing.
    pub(crate) fn explain(&self, token: BearerToken<'_>) -> String {
        let verified = match token {
            BearerToken::Absent => Err(TokenError::Missing),
            BearerToken::Ambiguous => Err(TokenError::Ambiguous),
            BearerToken::Present(token) => match (self.check_form(token), &self.keys) {
                (Err(error), _) => Err(error),
                (Ok(header), KeySource::Secret(key)) => {
                    self.verify_with([key].into_iter(), header.alg, token)
                }
                (Ok(header), KeySource::File(set)) => {
                    let keys = set.matching(header.kid.as_deref(), header.alg);
                    self.verify_with(keys, header.alg, token)
                }
                (Ok(_), KeySource::Remote(keys)) => {
                    return format!(
                        "verifies the token with {}, which explain does not fetch",
                        keys.url()
                    );
                }
            },
        };
        match verified {
            Ok(token) => {
                let subject = token.subject().unwrap_or("a client without `sub`");
                let until = humantime::format_rfc3339_seconds(token.expires);
                format!("admits {subject} until {until}")
            }
            Err(error) => {
                let denial = self.deny(error);
                format!("refuses with {}: {error}", denial.status.as_u16())
            }
        }
    }

    /// Checks what does not depend on a key. Two parsers must not read two different tokens.
    fn check_form(&self, token: &str) -> Result<jsonwebtoken::Header, TokenError> {
        if token.len() > MAX_TOKEN_LEN {
            return Err(TokenError::Malformed);
        }
        let parts: Vec<&str> = token.split('.').collect();
        let [head, payload, signature] = parts[..] else {
            return Err(TokenError::Malformed);
        };
        let is_unique = |part: &str| {
            let decoded = BASE64_URL_SAFE_NO_PAD.decode(part);
            decoded.is_ok_and(|json| json.starts_with(b"{") && UniqueJson::accepts(&json))
        };
        if signature.is_empty() || !is_unique(head) || !is_unique(payload) {
            return Err(TokenError::Malformed);
        }
        // Also fails for algorithms that the crate does not know, such as `none`.
        let header = jsonwebtoken::decode_header(token).map_err(|_| TokenError::Algorithm)?;
        if !self.algorithms.contains(&header.alg) {
            return Err(TokenError::Algorithm);
        }
        Ok(header)
    }

    fn verify_with<'k>(
        &self,
        keys: impl Iterator<Item = &'k DecodingKey>,
        algorithm: Algorithm,
        token: &str,
    ) -> Result<VerifiedToken, TokenError> {
        // The library requires that all algorithms here fit each key.
        let validation = Validation {
            algorithms: vec![algorithm],
            ..self.validation.clone()
        };
        let mut error = TokenError::UnknownKey;
        for key in keys {
            match jsonwebtoken::decode::<Map<String, Value>>(token, key, &validation) {
                Ok(TokenData { claims, .. }) => return self.check_claims(claims),
                Err(found) => {
                    error = TokenError::from(found.kind());
                    // With another key only the signature can be different.
                    if error != TokenError::Signature {
                        return Err(error);
                    }
                }
            }
        }
        Err(error)
    }

    fn check_claims(&self, claims: Map<String, Value>) -> Result<VerifiedToken, TokenError> {
        let issuer = claims.get("iss");
        if !self.issuer.is_empty() && issuer.and_then(Value::as_str) != Some(&*self.issuer) {
            return Err(TokenError::Issuer);
        }
        let expires = claims.get("exp").and_then(Value::as_f64);
        let expires = expires.filter(|at| (0.0..MAX_TIME).contains(at));
        let expires = UNIX_EPOCH + Duration::from_secs_f64(expires.ok_or(TokenError::Claim)?);
        for name in ["sub", "sid"] {
            let is_usable = |value: &Value| {
                value
                    .as_str()
                    .is_some_and(|text| !text.is_empty() && text.len() <= MAX_SUBJECT_LEN)
            };
            if claims.get(name).is_some_and(|value| !is_usable(value)) {
                return Err(TokenError::Claim);
            }
        }
        let has = |(path, value): &(ClaimPath, String)| {
            path.find(&claims)
                .is_some_and(|claim| contains(claim, value))
        };
        if !self.required.iter().all(has) {
            return Err(TokenError::Permission);
        }
        Ok(VerifiedToken {
            claims,
            expires: expires + self.leeway,
        })
    }

    /// Adds the identity and the headers of a verified token.
    pub(crate) fn apply(
        &self,
        token: &VerifiedToken,
        authorized: &mut Authorized,
    ) -> Result<(), Denial> {
        if let Some(subject) = token.text("sub") {
            let mut identity = SessionIdentity::new(subject);
            if self.closes_on_expiry {
                let origin = self.origin(token);
                identity = identity.expiring(origin, token.expires, self.close_code);
            }
            authorized.identify(identity);
        } else if self.closes_on_expiry {
            // It expires, but no other token can be of the same subject.
            let origin = TokenOrigin::default();
            let identity = SessionIdentity::new("");
            authorized.identify(identity.expiring(origin, token.expires, self.close_code));
        }
        for (name, path) in &self.headers {
            authorized.removed.push(name.clone());
            let Some(claim) = path.find(&token.claims) else {
                continue;
            };
            let value = header_value(claim).ok_or_else(|| self.deny(TokenError::Header))?;
            authorized.added.push((name.clone(), value));
        }
        Ok(())
    }

    /// Returns what a newer token must have in common with this one to extend its sessions.
    pub(crate) fn origin(&self, token: &VerifiedToken) -> TokenOrigin {
        let issuer = token.text("iss").unwrap_or_default();
        match token.text("sub") {
            Some(subject) => TokenOrigin::new(&self.name, issuer, subject, token.text("sid")),
            None => TokenOrigin::default(),
        }
    }

    /// Returns the response to a token that is not accepted (RFC 6750 §3).
    pub(crate) fn deny(&self, error: TokenError) -> Denial {
        let text = error.to_string();
        let (status, challenge) = match error {
            TokenError::NoKeys => {
                let denial = Denial::new(
                    StatusCode::SERVICE_UNAVAILABLE,
                    DenialReason::Authority,
                    text,
                );
                return denial.with(header::RETRY_AFTER, HeaderValue::from_static("2"));
            }
            // RFC 6750 §3.1: without a token, the response has no error code.
            TokenError::Missing => (StatusCode::UNAUTHORIZED, "Bearer".to_owned()),
            TokenError::Permission => {
                let challenge =
                    format!("Bearer error=\"insufficient_scope\", error_description=\"{text}\"");
                (StatusCode::FORBIDDEN, challenge)
            }
            TokenError::Header => return Denial::forbidden(DenialReason::Jwt, text),
            _ => {
                let challenge =
                    format!("Bearer error=\"invalid_token\", error_description=\"{text}\"");
                (StatusCode::UNAUTHORIZED, challenge)
            }
        };
        let denial = Denial::new(status, DenialReason::Jwt, text);
        match HeaderValue::try_from(challenge) {
            Ok(challenge) => denial.with(header::WWW_AUTHENTICATE, challenge),
            Err(_) => denial,
        }
    }
}

impl fmt::Debug for JwtGuard {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("JwtGuard")
            .field("name", &self.name)
            .finish_non_exhaustive()
    }
}

// === impl VerifiedToken ===

impl VerifiedToken {
    /// Returns a claim that is text.
    fn text(&self, claim: &str) -> Option<&str> {
        self.claims.get(claim)?.as_str()
    }

    /// Returns the name of the user or client.
    pub(crate) fn subject(&self) -> Option<&str> {
        self.text("sub")
    }

    /// Returns `exp` with the leeway.
    pub(crate) fn expires(&self) -> SystemTime {
        self.expires
    }
}

// === impl ClaimPath ===

impl ClaimPath {
    /// Finds the claim. A claim whose name has the dots itself is preferred: namespaced claims are URLs.
    fn find<'c>(&self, claims: &'c Map<String, Value>) -> Option<&'c Value> {
        if let Some(claim) = claims.get(&self.0) {
            return Some(claim);
        }
        let mut parts = self.0.split('.');
        let first = claims.get(parts.next()?)?;
        parts.try_fold(first, |claim, part| claim.get(part))
    }
}

// === impl TokenError ===

impl From<&ErrorKind> for TokenError {
    fn from(kind: &ErrorKind) -> Self {
        match kind {
            ErrorKind::InvalidSignature => TokenError::Signature,
            ErrorKind::ExpiredSignature => TokenError::Expired,
            ErrorKind::ImmatureSignature => TokenError::Immature,
            ErrorKind::InvalidIssuer => TokenError::Issuer,
            ErrorKind::InvalidAudience => TokenError::Audience,
            ErrorKind::MissingRequiredClaim(_)
            | ErrorKind::InvalidClaimFormat(_)
            | ErrorKind::InvalidSubject => TokenError::Claim,
            ErrorKind::InvalidAlgorithm | ErrorKind::InvalidAlgorithmName => TokenError::Algorithm,
            ErrorKind::InvalidKeyFormat
            | ErrorKind::InvalidRsaKey(_)
            | ErrorKind::InvalidEcdsaKey
            | ErrorKind::InvalidEddsaKey => TokenError::UnknownKey,
            _ => TokenError::Malformed,
        }
    }
}

fn validation(jwt: &config::Jwt) -> Validation {
    // An algorithm of the caller replaces the one here.
    let mut validation = Validation::new(Algorithm::HS256);
    validation.leeway = jwt.leeway.0.as_secs();
    validation.validate_nbf = true;
    let mut required = vec!["exp"];
    if jwt.issuer.is_empty() {
        validation.iss = None;
    } else {
        validation.set_issuer(&[&jwt.issuer]);
        required.push("iss");
    }
    if jwt.audience.iter().any(|name| name == "*") {
        validation.validate_aud = false;
    } else {
        validation.set_audience(&jwt.audience);
        required.push("aud");
    }
    validation.set_required_spec_claims(&required);
    validation
}

fn algorithm(name: JwtAlgorithm) -> Algorithm {
    match name {
        JwtAlgorithm::HS256 => Algorithm::HS256,
        JwtAlgorithm::HS384 => Algorithm::HS384,
        JwtAlgorithm::HS512 => Algorithm::HS512,
        JwtAlgorithm::RS256 => Algorithm::RS256,
        JwtAlgorithm::RS384 => Algorithm::RS384,
        JwtAlgorithm::RS512 => Algorithm::RS512,
        JwtAlgorithm::PS256 => Algorithm::PS256,
        JwtAlgorithm::PS384 => Algorithm::PS384,
        JwtAlgorithm::PS512 => Algorithm::PS512,
        JwtAlgorithm::ES256 => Algorithm::ES256,
        JwtAlgorithm::ES384 => Algorithm::ES384,
        JwtAlgorithm::EdDSA => Algorithm::EdDSA,
    }
}

/// Returns whether a claim is `value`, is a list that has it, or has it as one of its words (RFC 8693 §4.2).
fn contains(claim: &Value, value: &str) -> bool {
    match claim {
        Value::String(text) => text == value || text.split(' ').any(|word| word == value),
        Value::Array(list) => list.iter().any(|one| one.as_str() == Some(value)),
        Value::Number(number) => number.to_string() == value,
        Value::Bool(flag) => flag.to_string() == value,
        Value::Null | Value::Object(_) => false,
    }
}

/// Returns a claim as the value of a header, as Envoy's `claim_to_headers` does: text, numbers and booleans as they
/// are, lists and objects as JSON in base64url. `None` if the text has other characters than visible ASCII and blanks.
fn header_value(claim: &Value) -> Option<HeaderValue> {
    let text = match claim {
        Value::String(text) => text.clone(),
        Value::Number(number) => number.to_string(),
        Value::Bool(flag) => flag.to_string(),
        Value::Null => String::new(),
        Value::Array(_) | Value::Object(_) => BASE64_URL_SAFE_NO_PAD.encode(claim.to_string()),
    };
    let is_plain = text.bytes().all(|byte| (b' '..=b'~').contains(&byte));
    let value = is_plain.then(|| HeaderValue::try_from(text).ok());
    value.flatten()
}

/// In bytes: more than a header line that most servers accept.
const MAX_TOKEN_LEN: usize = 16 * 1024;

/// In bytes: OpenID Connect Core 1.0 §2 allows 255 characters.
const MAX_SUBJECT_LEN: usize = 1024;

/// In seconds since 1970: the end of the year 9999.
const MAX_TIME: f64 = 253_402_300_800.0;
