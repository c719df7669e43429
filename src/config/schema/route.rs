//! `[[routes]]`.

use crate::config::{
    diagnostic::Located,
    schema::{applies::Applies, server::default, session::SessionOverrides},
    values::{
        address::BackendSource,
        host_field::{self, HostField},
        network::Cidr,
        pattern::{HostPattern, OriginPattern, PathPattern},
        selector::{TokenHeader, TokenSource},
    },
};
use schemars::JsonSchema;
use serde::{Deserialize, Deserializer, Serialize};
use std::collections::BTreeMap;

/// One of `[[routes]]`
#[derive(Debug, Clone, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Route {
    /// The name; it identifies the route in logs and across reloads. Required when there are several routes.
    #[serde(default = "default_name")]
    #[schemars(with = "String")]
    #[schemars(extend("x-applies" = Applies::AtOnce, "x-example" = "lobby"))]
    pub name: Located<String>,
    /// Host names that clients use: "chat.example.com", "*.example.com" (all below), "*" (any).
    #[schemars(extend("x-applies" = Applies::NewSessions, "x-example" = ["chat.example.com", "*.example.com"]))]
    pub hosts: Vec<HostPattern>,
    /// "/ws" (exact), "/ws/*" (this and all below) or "~ ^/room/[0-9]+$" (a regular expression).
    #[serde(default = "every_path")]
    #[schemars(extend("x-applies" = Applies::NewSessions, "x-example" = "/ws/*"))]
    pub path: PathPattern,
    /// Matches only if the client offers one of these subprotocols; []: no condition.
    #[serde(default)]
    #[schemars(extend("x-applies" = Applies::NewSessions, "x-example" = ["chat.v2"]))]
    pub subprotocols: Vec<String>,
    /// Matches only if the request has all these headers with these values.
    #[serde(default)]
    #[schemars(extend("x-applies" = Applies::NewSessions, "x-example" = {"x-version": "2"}))]
    pub headers: BTreeMap<String, String>,
    /// "websocket": other requests get 426; "http": WebSockets get 404.
    #[serde(default)]
    #[schemars(extend("x-applies" = Applies::NewSessions, "x-example" = "websocket"))]
    pub only: Only,
    /// The pool that requests are sent to. Either this or `to`.
    #[serde(default)]
    #[schemars(extend("x-applies" = Applies::AtOnce, "x-example" = "chat"))]
    pub pool: Option<Located<String>>,
    /// The backend that requests are sent to, such as "ws://127.0.0.1:8765", or a DNS name with several addresses, such as "dns://chat:8765". Either this or `pool`.
    #[serde(default)]
    #[schemars(extend("x-applies" = Applies::AtOnce, "x-example" = "ws://127.0.0.1:8765"))]
    pub to: Option<Located<BackendSource>>,
    /// A path prefix, such as "/ws", that is removed before forwarding and sent as X-Forwarded-Prefix.
    #[serde(default, deserialize_with = "prefix")]
    #[schemars(with = "String", extend("default" = ""))]
    #[schemars(extend("x-applies" = Applies::NewSessions, "x-example" = "/ws"))]
    pub strip_prefix: Option<String>,
    /// The server software of the backend. It decides how X-Forwarded-Proto and X-Forwarded-Prefix are sent. With "uvicorn" (handshakes) and "websockets" (all requests) a request line or header line of more than 8,192 bytes, or more than 128 header lines, are refused with 431.
    #[serde(default)]
    #[schemars(extend("x-applies" = Applies::NewSessions, "x-example" = "uvicorn"))]
    pub framework: Framework,
    /// Pages that may open WebSockets: `same-host`, `https://example.com`, `*.example.com` or `*`. Ports are ignored. An Origin of another form, as devices and desktop shells send it, is allowed literally if listed: `file://`, `null`, `my-device`. "null" is the Origin of every sandboxed frame and local file, too. Clients that are not browsers send no Origin and are allowed.
    #[serde(default = "same_host")]
    #[schemars(extend("x-applies" = Applies::NewSessions, "x-example" = ["same-host", "https://example.com"]))]
    pub origins: Vec<OriginPattern>,
    /// Networks of clients that are allowed.
    #[serde(default = "all_networks")]
    #[schemars(extend("x-applies" = Applies::NewSessions, "x-example" = ["10.0.0.0/8"]))]
    pub allow: Vec<Cidr>,
    /// Networks of clients that are refused; takes precedence over `allow`.
    #[serde(default)]
    #[schemars(extend("x-applies" = Applies::NewSessions, "x-example" = ["192.0.2.0/24"]))]
    pub deny: Vec<Cidr>,
    /// "require": clients without a certificate signed by `tls.client_ca` get 403; "optional": they are allowed too. The backend gets the certificate as Client-Cert (RFC 9440).
    #[serde(default)]
    #[schemars(extend("x-applies" = Applies::NewSessions, "x-example" = "require"))]
    pub client_cert: ClientCert,
    /// Names of `[guards]` that each request must pass, in this order.
    #[serde(default)]
    #[schemars(extend("x-applies" = Applies::NewSessions, "x-example" = ["login"]))]
    pub guards: Vec<Located<String>>,
    /// `true`: `lockgate tap` may show the frames of this route's sessions, including payloads, to every user of `server.admin`.
    #[serde(default)]
    #[schemars(extend("x-applies" = Applies::AtOnce, "x-example" = true))]
    pub tap: bool,
    /// `false`: no certificate is obtained by ACME for the hosts of this route.
    #[serde(default = "yes")]
    #[schemars(extend("x-applies" = Applies::AtOnce, "x-example" = false))]
    pub acme: bool,
    /// The `Host` that backends receive, such as "localhost:9222", because some servers refuse other hosts; "": as the client sent it, which is in X-Forwarded-Host in any case. The `host` of a backend takes precedence. The name in TLS does not change.
    #[serde(
        default,
        deserialize_with = "host_field::optional",
        skip_serializing_if = "Option::is_none"
    )]
    #[schemars(with = "String", extend("default" = ""))]
    #[schemars(extend("x-applies" = Applies::NewSessions, "x-example" = "localhost:9222"))]
    pub host: Option<HostField>,
    /// "as-is": the backend receives the path as the client sent it, with escaped (`%2F`) and repeated slashes; "normal": in its normal form, and an escaped slash gets 400. With "as-is" the request gets 400 unless the path selects this route both in its normal form, in which an escaped slash is no separator, and decoded completely.
    #[serde(default)]
    #[schemars(extend("x-applies" = Applies::NewSessions, "x-example" = "as-is"))]
    pub path_encoding: PathEncoding,
    /// "lenient": a WebSocket handshake without `Connection: Upgrade` is accepted, as some devices send it; "strict": it gets 400.
    #[serde(default)]
    #[schemars(extend("x-applies" = Applies::NewSessions, "x-example" = "lenient"))]
    pub handshake: HandshakeRules,
    /// Where browsers can put a token, and the header that it is moved into.
    #[serde(default)]
    pub token: Token,
    /// Settings that differ from `[session]`.
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
    /// Only WebSockets.
    Websocket,
    /// Only plain HTTP.
    Http,
}

/// `routes.client_cert`
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum ClientCert {
    /// No client certificate is requested.
    #[default]
    Off,
    /// A client certificate is requested, and clients without one are allowed.
    Optional,
    /// A client certificate is requested, and clients without one get 403.
    Require,
}

/// `routes.path_encoding`
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum PathEncoding {
    /// The normal form of RFC 3986 §6.2.2.
    #[default]
    Normal,
    /// The bytes of the request.
    AsIs,
}

/// `routes.handshake`
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum HandshakeRules {
    /// As RFC 6455 requires.
    #[default]
    Strict,
    /// `Connection: Upgrade` may be missing.
    Lenient,
}

/// `routes.token`
#[derive(Debug, Clone, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Token {
    /// Where to look for a token, such as "subprotocol:bearer", "query:token" or "cookie:session". The first token found is used; tokens are removed from all of these places. []: nothing is moved.
    #[schemars(extend("x-applies" = Applies::NewSessions, "x-example" = ["cookie:session"]))]
    pub from: Vec<TokenSource>,
    /// The header in which the backend gets the token: "authorization" has `Bearer` before it, any other header has only the token.
    #[schemars(extend("x-applies" = Applies::NewSessions, "x-example" = "x-auth-token"))]
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
    /// The form that most servers expect.
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

/// The name of a route that is written without one. Several routes must all be named.
pub(crate) const UNNAMED: &str = "default";

fn default_name() -> Located<String> {
    Located::nowhere(UNNAMED.to_owned())
}

/// Returns the default of `path`: every path.
pub(crate) fn every_path() -> PathPattern {
    default("/*")
}

/// Returns the default of `origins`: the host of the request.
pub(crate) fn same_host() -> Vec<OriginPattern> {
    vec![OriginPattern::SameHost]
}

/// Returns the default of `allow`: all IPv4 and IPv6 addresses.
pub(crate) fn all_networks() -> Vec<Cidr> {
    vec![default("0.0.0.0/0"), default("::/0")]
}

fn yes() -> bool {
    true
}

fn prefix<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<String>, D::Error> {
    let prefix = String::deserialize(deserializer)?;
    Ok((!prefix.is_empty()).then_some(prefix))
}
