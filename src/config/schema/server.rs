//! `[server]` and `[limits]`.

use crate::config::{
    diagnostic::Located,
    schema::applies::Applies,
    values::{
        BadValue,
        acme::Secret,
        address::{Access, AdminAddress},
        network::{Cidr, ListenAddress},
        units::{DurationValue, Rate, Size},
    },
};
use schemars::JsonSchema;
use serde::{Deserialize, Deserializer, Serialize};
use std::{net::SocketAddr, str::FromStr};

/// `[server]`
#[derive(Debug, Clone, Deserialize, Serialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Server {
    /// TLS listeners. `[::]:443` accepts IPv4 too.
    #[schemars(extend("x-applies" = Applies::AtOnce, "x-example" = ["0.0.0.0:8443"]))]
    pub https: Vec<Located<ListenAddress>>,
    /// Cleartext HTTP listeners: they redirect to https, and answer 400 if a proxy has marked the request as https (see `cleartext`). [] for none.
    #[schemars(extend("x-applies" = Applies::AtOnce, "x-example" = ["0.0.0.0:8080"]))]
    pub http: Vec<Located<ListenAddress>>,
    /// Listeners for proxies that terminate TLS, such as a load balancer: they serve the routes in clear text, over HTTP/1.1. Only `trusted_proxies` may connect. `X-Forwarded-Proto` decides the scheme that backends see; without it, it is http. Routes with `client_cert` answer 403. [] for none.
    #[schemars(extend("x-applies" = Applies::AtOnce, "x-example" = ["0.0.0.0:8081"]))]
    pub cleartext: Vec<Located<ListenAddress>>,
    /// The listener for status and commands: a loopback address, "unix:/path", or "off".
    #[schemars(extend("x-applies" = Applies::Restart, "x-example" = "unix:/run/lockgate/admin.sock"))]
    pub admin: Located<AdminAddress>,
    /// The token that requests to `admin` must send as `Authorization: Bearer …`, except to /healthz, /readyz and /auth; "": none is needed.
    #[schemars(extend("x-applies" = Applies::Restart, "x-example" = "${LOCKGATE_ADMIN_TOKEN}"))]
    pub admin_token: Secret,
    /// The listener that serves only /metrics, /healthz and /readyz, for Prometheus and the kubelet, such as "0.0.0.0:9181"; or "off".
    #[serde(deserialize_with = "metrics")]
    #[schemars(with = "String", extend("default" = "off"))]
    #[schemars(extend("x-applies" = Applies::Restart, "x-example" = "0.0.0.0:9181"))]
    pub metrics: Option<Located<SocketAddr>>,
    /// "require": every connection must begin with a PROXY v1 or v2 header from one of `trusted_proxies`.
    #[schemars(extend("x-applies" = Applies::NewConnections, "x-example" = "require"))]
    pub proxy_protocol: ProxyProtocol,
    /// Networks whose PROXY header and X-Forwarded-* are trusted.
    #[schemars(extend("x-applies" = Applies::NewSessions, "x-example" = ["10.0.0.0/8"]))]
    pub trusted_proxies: Vec<Cidr>,
    /// WebSockets over HTTP/2 (RFC 8441). `false` is the emergency switch: browsers then use HTTP/1.1 for them.
    #[schemars(extend("x-applies" = Applies::NewConnections, "x-example" = false))]
    pub h2_websocket: bool,
    /// The level and format of the log on stderr.
    pub log: Log,
    /// Where the access log is written: "stdout", "off", or a file. A file is opened again on SIGHUP, by `lockgate reload`, and when it was renamed or removed, so log rotation needs no `copytruncate`.
    #[schemars(extend("x-applies" = Applies::Restart, "x-example" = "/var/log/lockgate/access.log"))]
    pub access: Access,
}

/// `server.proxy_protocol`
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum ProxyProtocol {
    /// No header is expected.
    Off,
    /// Every connection must begin with one, from a trusted proxy.
    Require,
}

/// `server.log`
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Log {
    /// The lowest level that is logged.
    #[schemars(extend("x-applies" = Applies::Restart, "x-example" = "debug"))]
    pub level: LogLevel,
    /// The format of log lines and access-log lines: "text" for people, "json" for programs.
    #[schemars(extend("x-applies" = Applies::Restart, "x-example" = "json"))]
    pub format: LogFormat,
}

/// A log level.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum LogLevel {
    /// The operator must act.
    Error,
    /// Surprising, but handled.
    Warn,
    /// The life cycle of the process.
    Info,
    /// One or more lines per connection.
    Debug,
    /// One or more lines per request.
    Trace,
}

/// The format of log lines.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum LogFormat {
    /// Text for people.
    Text,
    /// One JSON object per line, for programs.
    Json,
}

/// `[limits]`
#[derive(Debug, Clone, Deserialize, Serialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Limits {
    /// The maximum number of open connections. 0: the number that the file-descriptor limit allows; Lockgate raises the soft limit to the hard limit at start.
    #[schemars(extend("x-applies" = Applies::Restart, "x-example" = 20000))]
    #[schemars(extend("x-limit" = "further connections are closed (`limit`)"))]
    pub connections: u32,
    /// The maximum number of live sessions. 0: the number that the file-descriptor limit allows.
    #[schemars(extend("x-applies" = Applies::Restart, "x-example" = 10000))]
    #[schemars(extend("x-limit" = "further handshakes get 503 with Retry-After (`sessions-full`)"))]
    pub sessions: u32,
    /// The maximum number of open connections per client address, IPv6 by /64; 0: no limit.
    #[schemars(extend("x-applies" = Applies::NewConnections, "x-example" = 50))]
    #[schemars(extend("x-limit" = "further connections of the address are closed (`share`)"))]
    pub connections_per_ip: u32,
    /// The maximum number of concurrent WebSockets per client address, IPv6 by /64; 0: no limit. The client address is the one that a trusted proxy names. At the limit a handshake gets 503 with Retry-After.
    #[schemars(extend("x-applies" = Applies::NewSessions, "x-example" = 20))]
    #[schemars(extend("x-limit" = "further handshakes of the address get 503 with Retry-After (`sessions-share`)"))]
    pub sessions_per_ip: u32,
    /// The maximum number of concurrent plain HTTP requests per client address, counted in the same way; 0: no limit. At the limit a request gets 503 with Retry-After.
    #[schemars(extend("x-applies" = Applies::NewSessions, "x-example" = 100))]
    #[schemars(extend("x-limit" = "further requests of the address get 503 with Retry-After (`requests-share`)"))]
    pub requests_per_ip: u32,
    /// The memory that the process may use. The concurrent plain requests of one client address may use three quarters of it, at 256 KiB each. When three quarters are used, an address that may use more than a tenth gets no further connection (it is closed) and no further request (503 with Retry-After). `trusted_proxies` are exempt. "0B": the limit of the control group (container, MemoryMax of systemd) or, without one, the memory of the machine.
    #[schemars(extend("x-applies" = Applies::NewSessions, "x-example" = "512MiB"))]
    #[schemars(extend("x-limit" = "further requests of the address get 503 with Retry-After, and its further connections are closed (`memory-share`)"))]
    pub memory: Size,
    /// The maximum rate of new connections per client address, IPv6 by /64; "0/s": no limit.
    #[serde(deserialize_with = "rate")]
    #[schemars(with = "Rate", extend("default" = "0/s"))]
    #[schemars(extend("x-applies" = Applies::Restart, "x-example" = "10/s"))]
    #[schemars(extend("x-limit" = "further connections of the address are closed (`share`)"))]
    pub accepts_per_ip: Option<Rate>,
    /// The time from accept to the end of the TLS handshake.
    #[schemars(extend("x-applies" = Applies::NewConnections, "x-example" = "5s"))]
    #[schemars(extend("x-limit" = "the connection is closed (`deadline`)"))]
    pub tls_handshake: DurationValue,
    /// The time from the first byte of a request to the end of its head.
    #[schemars(extend("x-applies" = Applies::NewConnections, "x-example" = "5s"))]
    #[schemars(extend("x-limit" = "the connection is closed"))]
    pub request_head: DurationValue,
    /// The longest time in which the client sends no byte of a request body, or accepts no byte of a response.
    #[schemars(extend("x-applies" = Applies::NewConnections, "x-example" = "30s"))]
    #[schemars(extend("x-limit" = "a request whose body stalls gets 408 (`body-idle`); a response that the client does not read is aborted"))]
    pub body_idle: DurationValue,
    /// The lowest rate, in bytes per second, at which a client sends a request body or accepts a response: the mean over `body_idle`, without the time in which Lockgate waits for the backend. Below it the request is aborted. 0: no limit.
    #[schemars(extend("x-applies" = Applies::NewConnections, "x-example" = 1000))]
    #[schemars(extend("x-limit" = "a request whose body is too slow gets 408 (`body-idle`); a response that the client reads too slowly is aborted"))]
    pub body_min_rate: u32,
    /// The longest time in which a backend sends no byte of its pending response to a plain HTTP request.
    #[schemars(extend("x-applies" = Applies::NewSessions, "x-example" = "10m"))]
    #[schemars(extend("x-limit" = "the client gets 504 (`answer-idle`); a response that has begun is aborted"))]
    pub answer_idle: DurationValue,
    /// The longest time between two requests of a connection.
    #[schemars(extend("x-applies" = Applies::NewConnections, "x-example" = "2m"))]
    #[schemars(extend("x-limit" = "the connection is closed"))]
    pub idle: DurationValue,
    /// The maximum length of a request head.
    #[schemars(extend("x-applies" = Applies::NewConnections, "x-example" = "32KiB"))]
    #[schemars(extend("x-limit" = "the request gets 431 (`head-size`)"))]
    pub head_size: Size,
    /// The maximum number of concurrent requests and WebSockets in one HTTP/2 connection; each may buffer 64 KiB. WebSockets that are closing count too, also if their client has reset the stream; beyond the limit a handshake gets 503 with Retry-After.
    #[schemars(extend("x-applies" = Applies::NewConnections, "x-example" = 50))]
    #[schemars(extend("x-limit" = "further streams are reset (`streams-excess`); a handshake while that number of WebSockets is open or closing gets 503 with Retry-After (`streams-full`)"))]
    pub h2_streams: u32,
}

impl Default for Server {
    fn default() -> Self {
        Server {
            https: vec![Located::nowhere(default("[::]:443"))],
            http: vec![Located::nowhere(default("[::]:80"))],
            cleartext: Vec::new(),
            admin: Located::nowhere(default("127.0.0.1:9180")),
            admin_token: Secret::default(),
            metrics: None,
            proxy_protocol: ProxyProtocol::Off,
            trusted_proxies: Vec::new(),
            h2_websocket: true,
            log: Log::default(),
            access: Access::Stdout,
        }
    }
}

impl Default for Log {
    fn default() -> Self {
        Log {
            level: LogLevel::Info,
            format: LogFormat::Text,
        }
    }
}

impl Default for Limits {
    fn default() -> Self {
        Limits {
            connections: 0,
            sessions: 0,
            connections_per_ip: 0,
            sessions_per_ip: 0,
            requests_per_ip: 0,
            memory: Size(0),
            accepts_per_ip: None,
            tls_handshake: default("10s"),
            request_head: default("10s"),
            body_idle: default("60s"),
            body_min_rate: 500,
            answer_idle: default("5m"),
            idle: default("60s"),
            head_size: default("16KiB"),
            h2_streams: 100,
        }
    }
}

impl FromStr for LogLevel {
    type Err = BadValue;

    fn from_str(text: &str) -> Result<Self, BadValue> {
        Ok(match text {
            "error" => LogLevel::Error,
            "warn" => LogLevel::Warn,
            "info" => LogLevel::Info,
            "debug" => LogLevel::Debug,
            "trace" => LogLevel::Trace,
            _ => {
                return Err(BadValue::new(
                    format!("`{text}` is not a log level"),
                    "error, warn, info, debug and trace are",
                ));
            }
        })
    }
}

impl FromStr for LogFormat {
    type Err = BadValue;

    fn from_str(text: &str) -> Result<Self, BadValue> {
        Ok(match text {
            "text" => LogFormat::Text,
            "json" => LogFormat::Json,
            _ => {
                return Err(BadValue::new(
                    format!("`{text}` is not a format"),
                    "text and json are",
                ));
            }
        })
    }
}

fn metrics<'de, D: Deserializer<'de>>(
    deserializer: D,
) -> Result<Option<Located<SocketAddr>>, D::Error> {
    let written = Located::<String>::deserialize(deserializer)?;
    if written.value == "off" {
        return Ok(None);
    }
    let address: ListenAddress = written.value.parse().map_err(BadValue::into_error)?;
    Ok(Some(Located {
        value: address.0,
        at: written.at,
    }))
}

fn rate<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<Rate>, D::Error> {
    let rate = Rate::deserialize(deserializer)?;
    Ok((rate.count > 0).then_some(rate))
}

/// A default, written as users would.
pub(crate) fn default<T: FromStr<Err: std::fmt::Debug>>(text: &str) -> T {
    text.parse()
        .expect("the defaults are right, which the tests show")
}
