//! `[guards.NAME]`.

use crate::config::{
    diagnostic::Located,
    schema::{applies::Applies, server::default},
    values::{
        acme::Secret,
        units::{DurationValue, Size},
    },
};
use schemars::JsonSchema;
use serde::{Deserialize, Deserializer, Serialize};
use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
};

/// One of `[guards.NAME]`: exactly one kind
#[derive(Debug, Clone, Default, Deserialize, Serialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Guard {
    /// JSON Web Tokens (RFC 7519) of an issuer.
    pub jwt: Option<Located<Jwt>>,
    /// A service that is asked about each request, such as Authelia, authentik or oauth2-proxy.
    pub forward_auth: Option<Located<ForwardAuth>>,
    /// User names and passwords (RFC 7617) of a file.
    pub basic: Option<Located<Basic>>,
}

/// `[guards.NAME.jwt]`
#[derive(Debug, Clone, Deserialize, Serialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Jwt {
    /// The `iss` of a valid token, exactly as the issuer writes it. The key set is found by its OpenID Connect discovery document unless `jwks` or `secret` is set. "": any, only with `secret`.
    #[schemars(extend("x-applies" = Applies::NewSessions, "x-example" = "https://id.example.com/"))]
    pub issuer: String,
    /// The URL or the file of the key set (RFC 7517); "": found by discovery.
    #[schemars(extend("x-applies" = Applies::NewSessions, "x-example" = "https://id.example.com/jwks.json"))]
    pub jwks: Located<String>,
    /// The names of which a valid token has one in `aud`; ["*"]: any.
    #[schemars(extend("x-applies" = Applies::NewSessions, "x-example" = ["chat"]))]
    pub audience: Vec<String>,
    /// The signature algorithms that are accepted; the header of a token does not choose; []: RS256, ES256 and EdDSA, or HS256 with `secret`.
    #[schemars(extend("x-applies" = Applies::NewSessions, "x-example" = ["RS256", "ES256", "EdDSA"]))]
    pub algorithms: Vec<JwtAlgorithm>,
    /// The key that the application signs its tokens with (HS256), of at least 32 bytes; "": keys of the issuer.
    #[schemars(extend("x-applies" = Applies::NewSessions, "x-example" = "${JWT_SECRET}"))]
    pub secret: Secret,
    /// A PEM file with the only CAs that are trusted for the URLs of the issuer; "": the public CAs.
    #[serde(deserialize_with = "path")]
    #[schemars(with = "String", extend("default" = ""))]
    #[schemars(extend("x-applies" = Applies::NewSessions, "x-example" = "id-ca.pem"))]
    pub ca: Option<Located<PathBuf>>,
    /// The difference of clocks that is tolerated in `exp` and `nbf`.
    #[schemars(extend("x-applies" = Applies::NewSessions, "x-example" = "60s"))]
    #[schemars(extend("x-limit" = "the token counts as expired, or as not yet valid"))]
    pub leeway: DurationValue,
    /// Claims that a token must have, with these values: a claim matches if it is equal, if it is a list that has the value, or if the value is one word of it. Otherwise 403.
    #[schemars(extend("x-applies" = Applies::NewSessions, "x-example" = {"scope": "chat"}))]
    pub required: BTreeMap<String, String>,
    /// Claims that the backend receives as headers, such as { x-user = "sub" }; `realm_access.roles` names a claim inside another. Such headers of the client are removed.
    #[schemars(extend("x-applies" = Applies::NewSessions, "x-example" = {"x-user": "sub"}))]
    pub headers: BTreeMap<String, String>,
    /// "close": a session is closed when its token expires; "ignore": the token is checked at the handshake only.
    #[schemars(extend("x-applies" = Applies::NewSessions, "x-example" = "ignore"))]
    pub on_expiry: OnExpiry,
    /// The close code of a session whose token has expired; its reason is "token expired".
    #[schemars(extend("x-applies" = Applies::NewSessions, "x-example" = 1008))]
    pub close_code: u16,
    /// A path, such as "/auth/refresh": a POST with a newer token of the same subject extends its sessions. "": none.
    #[schemars(extend("x-applies" = Applies::NewSessions, "x-example" = "/auth/refresh"))]
    pub refresh_path: String,
}

/// One of `guards.NAME.jwt.algorithms`
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
pub enum JwtAlgorithm {
    HS256,
    HS384,
    HS512,
    RS256,
    RS384,
    RS512,
    PS256,
    PS384,
    PS512,
    ES256,
    ES384,
    EdDSA,
}

/// `guards.NAME.jwt.on_expiry`
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum OnExpiry {
    /// The session is closed.
    #[default]
    Close,
    /// The session stays open.
    Ignore,
}

/// `[guards.NAME.forward_auth]`
#[derive(Debug, Clone, Deserialize, Serialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct ForwardAuth {
    /// The URL that is asked: 2xx admits a request. With a preset, the address of the service is enough.
    #[schemars(extend("x-applies" = Applies::NewSessions, "x-example" = "http://127.0.0.1:4180/oauth2/auth"))]
    pub url: Located<String>,
    /// "authelia", "authentik" or "oauth2-proxy": the path of the URL and the headers that are copied.
    #[schemars(extend("x-applies" = Applies::NewSessions, "x-example" = "authelia"))]
    pub preset: AuthPreset,
    /// Headers of the response that the backend receives, such as "Remote-User", or with another name: "X-Auth-Request-User > X-User". Such headers of the client are removed.
    #[schemars(extend("x-applies" = Applies::NewSessions, "x-example" = ["X-Auth-Request-User > X-User"]))]
    pub copy: Vec<String>,
    /// A PEM file with the only CAs that are trusted for an https URL; "": the public CAs.
    #[serde(deserialize_with = "path")]
    #[schemars(with = "String", extend("default" = ""))]
    #[schemars(extend("x-applies" = Applies::NewSessions, "x-example" = "auth-ca.pem"))]
    pub ca: Option<Located<PathBuf>>,
    /// The time limit of a request to the service.
    #[schemars(extend("x-applies" = Applies::NewSessions, "x-example" = "2s"))]
    #[schemars(extend("x-limit" = "the request is refused with 503"))]
    pub timeout: DurationValue,
    /// The limit on the head of a response of the service.
    #[schemars(extend("x-applies" = Applies::NewSessions, "x-example" = "16KiB"))]
    #[schemars(extend("x-limit" = "the request is refused with 503"))]
    pub headers_max: Size,
    /// How often the service is asked again during a session; 401, 403 and redirects close it. "0s": never.
    #[schemars(extend("x-applies" = Applies::NewSessions, "x-example" = "5m"))]
    #[schemars(extend("x-limit" = "the service is asked again"))]
    pub recheck: DurationValue,
    /// How long a session stays open while the service gives no answer.
    #[schemars(extend("x-applies" = Applies::NewSessions, "x-example" = "1h"))]
    #[schemars(extend("x-limit" = "the session is closed with 1013"))]
    pub grace: DurationValue,
    /// "401": a redirect of the service answers a WebSocket handshake as 401 with the location in the body; "pass": as it is. Pages always receive the redirect.
    #[schemars(extend("x-applies" = Applies::NewSessions, "x-example" = "pass"))]
    pub redirects: AuthRedirects,
    /// The close code of a session that the service refuses when it is asked again.
    #[schemars(extend("x-applies" = Applies::NewSessions, "x-example" = 1008))]
    pub close_code: u16,
}

/// `guards.NAME.forward_auth.preset`
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum AuthPreset {
    /// The convention of Traefik and nginx.
    #[default]
    #[serde(rename = "")]
    None,
    /// Authelia
    Authelia,
    /// authentik
    Authentik,
    /// oauth2-proxy
    #[serde(rename = "oauth2-proxy")]
    Oauth2Proxy,
}

/// `guards.NAME.forward_auth.redirects`
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize, Serialize, JsonSchema)]
pub enum AuthRedirects {
    /// A handshake gets 401: browsers do not follow redirects of handshakes.
    #[default]
    #[serde(rename = "401")]
    Unauthorized,
    /// A handshake gets the redirect.
    #[serde(rename = "pass")]
    Pass,
}

/// `[guards.NAME.basic]`
#[derive(Debug, Clone, Deserialize, Serialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Basic {
    /// A file of user names and password hashes, as `htpasswd -B` writes it: bcrypt, argon2 or sha-crypt. It is read again when it changes.
    #[serde(deserialize_with = "path")]
    #[schemars(with = "String", extend("default" = ""))]
    #[schemars(extend("x-applies" = Applies::NewSessions, "x-example" = "users.htpasswd"))]
    pub users: Option<Located<PathBuf>>,
    /// The name that browsers show in the dialogue for the password.
    #[schemars(extend("x-applies" = Applies::NewSessions, "x-example" = "staff"))]
    pub realm: String,
    /// The header in which the backend receives the user name; "": none.
    #[schemars(extend("x-applies" = Applies::NewSessions, "x-example" = "X-User"))]
    pub header: String,
}

// === impl Guard ===

impl Guard {
    /// Makes paths relative to the folder of the file that names them.
    pub(crate) fn place_in(&mut self, folder: &Path) {
        if let Some(jwt) = &mut self.jwt {
            let jwt = &mut jwt.value;
            if let Some(file) = jwt.jwks_file() {
                jwt.jwks.value = folder.join(file).display().to_string();
            }
            if let Some(ca) = &mut jwt.ca {
                ca.value = folder.join(&ca.value);
            }
        }
        if let Some(auth) = &mut self.forward_auth
            && let Some(ca) = &mut auth.value.ca
        {
            ca.value = folder.join(&ca.value);
        }
        if let Some(basic) = &mut self.basic
            && let Some(users) = &mut basic.value.users
        {
            users.value = folder.join(&users.value);
        }
    }

    /// Returns the headers that backends receive from the guard, in lower case.
    pub(crate) fn set_headers(&self) -> Vec<String> {
        let jwt = self.jwt.iter().flat_map(|jwt| jwt.headers.keys());
        let auth = self.forward_auth.iter();
        let copied = auth
            .clone()
            .flat_map(|auth| auth.copies())
            .map(|(_, to)| to);
        let preset = auth.flat_map(|auth| auth.preset.copies()).copied();
        let basic = self.basic.iter().map(|basic| &*basic.header);
        let names = jwt
            .map(String::as_str)
            .chain(copied)
            .chain(preset)
            .chain(basic);
        let names = names.filter(|name| !name.is_empty());
        names.map(str::to_ascii_lowercase).collect()
    }

    /// Returns the files that the guard reads.
    pub(crate) fn files(&self) -> impl Iterator<Item = PathBuf> {
        let jwt = self.jwt.as_ref();
        let cas = [
            jwt.and_then(|jwt| jwt.ca.as_ref()),
            self.forward_auth.as_ref().and_then(|auth| auth.ca.as_ref()),
            self.basic.as_ref().and_then(|basic| basic.users.as_ref()),
        ];
        let named = cas.into_iter().flatten().map(|file| file.value.clone());
        named.chain(jwt.and_then(|jwt| jwt.jwks_file()).map(PathBuf::from))
    }
}

// === impl Jwt ===

impl Jwt {
    /// Returns the file of the key set, if `jwks` is no URL.
    pub(crate) fn jwks_file(&self) -> Option<&Path> {
        let jwks = &self.jwks.value;
        let is_file = !jwks.is_empty() && !jwks.contains("://");
        is_file.then(|| Path::new(jwks))
    }
}

impl Default for Jwt {
    fn default() -> Self {
        Jwt {
            issuer: String::new(),
            jwks: Located::nowhere(String::new()),
            audience: Vec::new(),
            algorithms: Vec::new(),
            secret: Secret::default(),
            ca: None,
            leeway: default("30s"),
            required: BTreeMap::new(),
            headers: BTreeMap::new(),
            on_expiry: OnExpiry::Close,
            close_code: UNAUTHORIZED,
            refresh_path: String::new(),
        }
    }
}

// === impl JwtAlgorithm ===

impl JwtAlgorithm {
    /// Returns whether the algorithm uses a shared secret.
    pub fn is_symmetric(self) -> bool {
        matches!(
            self,
            JwtAlgorithm::HS256 | JwtAlgorithm::HS384 | JwtAlgorithm::HS512
        )
    }
}

// === impl ForwardAuth ===

impl ForwardAuth {
    /// Returns the entries of `copy`: the header of the response, and its name for the backend.
    pub(crate) fn copies(&self) -> impl Iterator<Item = (&str, &str)> {
        self.copy.iter().map(|entry| match entry.split_once('>') {
            Some((from, to)) => (from.trim(), to.trim()),
            None => (entry.trim(), entry.trim()),
        })
    }
}

impl Default for ForwardAuth {
    fn default() -> Self {
        ForwardAuth {
            url: Located::nowhere(String::new()),
            preset: AuthPreset::None,
            copy: Vec::new(),
            ca: None,
            timeout: default("5s"),
            headers_max: default("64KiB"),
            recheck: default("0s"),
            grace: default("15m"),
            redirects: AuthRedirects::Unauthorized,
            close_code: UNAUTHORIZED,
        }
    }
}

// === impl AuthPreset ===

impl AuthPreset {
    /// Returns the path that a service of this kind answers on.
    pub(crate) fn path(self) -> &'static str {
        match self {
            AuthPreset::None => "/",
            AuthPreset::Authelia => "/api/authz/forward-auth",
            AuthPreset::Authentik => "/outpost.goauthentik.io/auth/traefik",
            AuthPreset::Oauth2Proxy => "/oauth2/auth",
        }
    }

    /// Returns the headers that a service of this kind sets for backends, in lower case.
    pub(crate) fn copies(self) -> &'static [&'static str] {
        match self {
            AuthPreset::None => &[],
            AuthPreset::Authelia => &[
                "remote-user",
                "remote-groups",
                "remote-name",
                "remote-email",
            ],
            AuthPreset::Authentik => &[
                "x-authentik-username",
                "x-authentik-groups",
                "x-authentik-entitlements",
                "x-authentik-email",
                "x-authentik-name",
                "x-authentik-uid",
                "x-authentik-jwt",
            ],
            AuthPreset::Oauth2Proxy => &[
                "x-auth-request-user",
                "x-auth-request-email",
                "x-auth-request-groups",
                "x-auth-request-preferred-username",
                "x-auth-request-access-token",
            ],
        }
    }
}

// === impl Basic ===

impl Default for Basic {
    fn default() -> Self {
        Basic {
            users: None,
            realm: "restricted".to_owned(),
            header: "Remote-User".to_owned(),
        }
    }
}

fn path<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<Located<PathBuf>>, D::Error> {
    let path = Located::<PathBuf>::deserialize(deserializer)?;
    Ok((!path.value.as_os_str().is_empty()).then_some(path))
}

/// "Unauthorized" in IANA's registry of close codes.
const UNAUTHORIZED: u16 = 3000;
