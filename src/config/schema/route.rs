//! `[[routes]]`.

use super::{
    super::{
        BackendSource, Cidr, HostPattern, Located, OriginPattern, PathPattern, TokenHeader,
        TokenSource,
    },
    server::default,
    session::SessionOverrides,
};
use schemars::JsonSchema;
use serde::{Deserialize, Deserializer, Serialize};
use std::collections::BTreeMap;

/// One of `[[routes]]`
#[derive(Debug, Clone, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Route {
    /// Its identity; required when there are several routes.
    #[serde(default = "default_name")]
    #[schemars(with = "String")]
    pub name: Located<String>,
    /// Names that clients use: "chat.example.com", "*.example.com" (all below), "*" (any).
    pub hosts: Vec<HostPattern>,
    /// "/ws" (exact), "/ws/*" (this and all below) or "~ ^/room/[0-9]+$" (a regular expression).
    #[serde(default = "every_path")]
    pub path: PathPattern,
    /// Matches only if the client offers one of these subprotocols; []: no condition.
    #[serde(default)]
    pub subprotocols: Vec<String>,
    /// Matches only if the request has all these headers with these values.
    #[serde(default)]
    pub headers: BTreeMap<String, String>,
    /// "websocket": other requests get 426; "http": WebSockets get 404.
    #[serde(default)]
    pub only: Only,
    /// The pool that requests go to. Either this or `to`.
    #[serde(default)]
    pub pool: Option<Located<String>>,
    /// The backend that requests go to, such as "ws://127.0.0.1:8765", or a name that DNS has several for, such as "dns://chat:8765". Either this or `pool`.
    #[serde(default)]
    pub to: Option<Located<BackendSource>>,
    /// A path prefix, such as "/ws", that is taken off before forwarding and told as X-Forwarded-Prefix.
    #[serde(default, deserialize_with = "prefix")]
    #[schemars(with = "String", extend("default" = ""))]
    pub strip_prefix: Option<String>,
    /// The backend's server, for what it expects of X-Forwarded-Proto and -Prefix.
    #[serde(default)]
    pub framework: Framework,
    /// Pages that may open WebSockets: `same-host`, `https://example.com`, `*.example.com` or `*`. Ports are ignored; clients that are no browsers send no Origin, and pass.
    #[serde(default = "same_host")]
    pub origins: Vec<OriginPattern>,
    /// Networks of clients that may pass.
    #[serde(default = "all_networks")]
    pub allow: Vec<Cidr>,
    /// Networks of clients that may not; beats allow.
    #[serde(default)]
    pub deny: Vec<Cidr>,
    /// "require": clients without a certificate of `tls.client_ca` get 403; "optional": they pass too. The backend gets it as Client-Cert (RFC 9440).
    #[serde(default)]
    pub client_cert: ClientCert,
    /// `true`: `lockgate tap` may show the frames of its sessions, payloads and all, to whoever may use `server.admin`.
    #[serde(default)]
    pub tap: bool,
    /// `false`: its hosts get no certificate by ACME.
    #[serde(default = "yes")]
    pub acme: bool,
    /// Tokens where browsers can put them, moved into a header.
    #[serde(default)]
    pub token: Token,
    /// What differs from `[session]`.
    #[serde(default)]
    pub session: SessionOverrides,
}

/// `routes.only`
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Only {
    /// WebSockets and plain HTTP.
    #[default]
    Any,
    /// WebSockets alone.
    Websocket,
    /// Plain HTTP alone.
    Http,
}

/// `routes.client_cert`
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum ClientCert {
    /// Clients are not asked for one.
    #[default]
    Off,
    /// They are asked, and pass without one.
    Optional,
    /// They are asked, and do not pass without one.
    Require,
}

/// `routes.token`
#[derive(Debug, Clone, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Token {
    /// Places to look in, such as "subprotocol:bearer", "query:token" or "cookie:session": the first that has a token counts, and it is taken out of all of them. []: nothing is moved.
    pub from: Vec<TokenSource>,
    /// The header that the backend gets it in: "authorization" says `Bearer` before it, any other has it bare.
    pub to: TokenHeader,
}

impl Default for Token {
    fn default() -> Self {
        Token {
            from: Vec::new(),
            to: default("authorization"),
        }
    }
}

/// `routes.framework`
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Framework {
    /// What most servers expect.
    #[default]
    #[serde(rename = "")]
    None,
    /// websockets
    Websockets,
    /// uvicorn: FastAPI, Starlette, Django
    Uvicorn,
    /// hypercorn: Quart
    Hypercorn,
    /// Daphne: Django Channels
    Daphne,
    /// Tornado
    Tornado,
    /// aiohttp
    Aiohttp,
    /// Autobahn
    Autobahn,
    /// Flask with Flask-Sock
    Flask,
    /// python-socketio
    Socketio,
}

/// The name of a route without one; several routes cannot be without.
pub(in crate::config) const UNNAMED: &str = "default";

fn default_name() -> Located<String> {
    Located::nowhere(UNNAMED.to_owned())
}

pub(in crate::config) fn every_path() -> PathPattern {
    default("/*")
}

pub(in crate::config) fn same_host() -> Vec<OriginPattern> {
    vec![OriginPattern::SameHost]
}

pub(in crate::config) fn all_networks() -> Vec<Cidr> {
    vec![default("0.0.0.0/0"), default("::/0")]
}

fn yes() -> bool {
    true
}

fn prefix<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<String>, D::Error> {
    let prefix = String::deserialize(deserializer)?;
    Ok((!prefix.is_empty()).then_some(prefix))
}
