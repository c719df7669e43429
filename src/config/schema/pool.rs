//! `[pools.NAME]`: backends, balancing, affinity, health, retries and admission.

use crate::config::{
    diagnostic::Located,
    schema::{applies::Applies, server::default},
    values::{
        BadValue,
        address::BackendSource,
        host_field::{self, HostField},
        selector::{CheckPath, HashKey},
        units::{DurationValue, Rebalance},
    },
};
use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{
    Deserialize, Deserializer, Serialize, Serializer,
    de::{Error, MapAccess, Visitor, value::MapAccessDeserializer},
};
use std::{
    fmt,
    net::IpAddr,
    path::{Path, PathBuf},
};

/// `[pools.NAME]`
#[derive(Debug, Clone, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Pool {
    /// The backends: addresses, or tables with an `address` and further settings.
    #[serde(deserialize_with = "backends")]
    #[schemars(with = "Vec<AddressOrTable>")]
    #[schemars(extend("x-applies" = Applies::AtOnce, "x-example" = ["ws://10.0.0.1:8765", "ws://10.0.0.2:8765"]))]
    pub backends: Vec<Located<Backend>>,
    /// Which backend gets the next session or request: the one with the fewest for its weight; each in turn; the less loaded of two chosen at random; or the one that `hash` selects.
    #[serde(default)]
    #[schemars(extend("x-applies" = Applies::NewSessions, "x-example" = "round-robin"))]
    pub balance: Balance,
    /// The part of the request that is hashed: "ip", "path", "header:x-user", "cookie:sid" or "query:room"; if a request lacks it, the client's address. A backend with more than 1.25 times its share is skipped. Only with `balance` = "hash".
    #[serde(default = "ip")]
    #[schemars(extend("x-applies" = Applies::NewSessions, "x-example" = "header:x-user"))]
    pub hash: HashKey,
    /// Whether a client returns to the backend that it used before, as long as that backend is available: by a signed cookie, or by the `sid` of Socket.IO.
    #[serde(default)]
    #[schemars(extend("x-applies" = Applies::NewSessions, "x-example" = "cookie"))]
    pub sticky: Sticky,
    /// How backends are health-checked.
    #[serde(default)]
    pub health: Located<Health>,
    /// Ejection of backends whose sessions and requests fail.
    #[serde(default)]
    pub passive: Passive,
    /// What happens when all backends are down or ejected: "try" them all the same, or "refuse" with 503 at once.
    #[serde(default)]
    #[schemars(extend("x-applies" = Applies::NewSessions, "x-example" = "refuse"))]
    pub all_down: AllDown,
    /// The time limit of a TCP connect to each address of a backend; the addresses of a name are tried 250 ms apart, and the first connection is used. It runs within `session.handshake_timeout`. If another backend can be tried (`retry`), it limits the TLS handshake with the backend, too, and is at most half of the time that is left. A backend that did not answer in time is used last, until a connect succeeds.
    #[serde(default = "two_seconds")]
    #[schemars(extend("x-applies" = Applies::NewSessions, "x-example" = "1s"))]
    #[schemars(extend("x-limit" = "another backend is tried; if there is none, the client gets 502 (`dial`)"))]
    pub connect_timeout: DurationValue,
    /// Retries on another backend if one fails before the 101 or answers 502, 503 or 504; plain requests only if they were not sent yet or may be sent twice.
    #[serde(default)]
    pub retry: Retry,
    /// How many handshakes a backend gets at a time; the others wait in order.
    #[serde(default)]
    pub admission: Admission,
    /// How long a backend that is new or has recovered receives only a growing share of new sessions and requests, starting at a tenth; "0s": its full share at once.
    #[serde(default = "at_once")]
    #[schemars(extend("x-applies" = Applies::NewSessions, "x-example" = "30s"))]
    pub slow_start: DurationValue,
    /// How fast sessions above a backend's share are closed after another backend is added or has recovered, so that reconnecting clients spread over all backends; "off": sessions stay. Only with `balance` = "least-sessions" and `sticky` = "off".
    #[serde(default)]
    #[schemars(extend("x-applies" = Applies::AtOnce, "x-example" = "50/s"))]
    pub rebalance: Rebalance,
}

/// `pools.NAME.balance`
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Balance {
    /// The backend with the fewest sessions and requests for its weight; equal ones in turn.
    #[default]
    LeastSessions,
    /// Each backend in turn, by weight.
    RoundRobin,
    /// Of two backends chosen at random by weight, the one with fewer sessions and requests for its weight.
    RandomTwo,
    /// Always the same backend for the same `hash`, as long as it is not overloaded.
    Hash,
}

/// `pools.NAME.sticky`
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Sticky {
    /// Every request is balanced on its own.
    #[default]
    Off,
    /// A cookie that Lockgate sets names the backend: `Secure`, `HttpOnly`, `SameSite=Lax`, deleted when the browser's session ends.
    Cookie,
    /// The backend whose polling response issued the `sid` that a request carries.
    Socketio,
}

/// `pools.NAME.retry`
#[derive(Debug, Clone, Copy, PartialEq, Deserialize, Serialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Retry {
    /// How many further backends are tried; 0: none.
    #[schemars(extend("x-applies" = Applies::NewSessions, "x-example" = 1))]
    #[schemars(extend("x-limit" = "the client gets the result of the last attempt"))]
    pub times: u32,
    /// The time after the first choice of a backend in which retries may start.
    #[schemars(extend("x-applies" = Applies::NewSessions, "x-example" = "2s"))]
    #[schemars(extend("x-limit" = "no further backend is tried, and the client gets the result of the last attempt"))]
    pub within: DurationValue,
}

/// `pools.NAME.admission`
#[derive(Debug, Clone, Copy, PartialEq, Deserialize, Serialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Admission {
    /// Concurrent handshakes per backend; a plain request counts until its body or its response begins, and at most for one second. One client address (IPv6: one /64) holds at most three quarters of them, and with a quarter or more it gets a further one only after the other clients in the queue. 0: no limit.
    #[schemars(extend("x-applies" = Applies::NewSessions, "x-example" = 16))]
    #[schemars(extend("x-limit" = "further handshakes and requests wait in the queue"))]
    pub handshakes: u32,
    /// How many handshakes and requests may wait, those of one client address (IPv6: one /64) at most a tenth of it; 0: no queue.
    #[schemars(extend("x-applies" = Applies::NewSessions, "x-example" = 200))]
    #[schemars(extend("x-limit" = "the client gets 503 with Retry-After (`queue-full`, `queue-share`)"))]
    pub queue: u32,
    /// The longest wait in the queue; `session.handshake_timeout` runs at the same time.
    #[schemars(extend("x-applies" = Applies::NewSessions, "x-example" = "5s"))]
    #[schemars(extend("x-limit" = "the client gets 503 with Retry-After (`queue-wait`)"))]
    pub wait: DurationValue,
}

/// One of `pools.NAME.backends`
#[derive(Debug, Clone, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Backend {
    /// The address; it identifies the backend across reloads. A name with dns:// or srv:// stands for every backend that DNS returns for it.
    #[schemars(extend("x-applies" = Applies::AtOnce, "x-example" = "ws://10.0.0.2:8765"))]
    pub address: BackendSource,
    /// How often a name with dns:// or srv:// is resolved, unless the TTL of the DNS answer is shorter.
    #[serde(default = "ten_seconds")]
    #[schemars(extend("x-applies" = Applies::AtOnce, "x-example" = "30s"))]
    pub resolve: DurationValue,
    /// What happens to the sessions of an address that DNS no longer returns: "keep" them until they end, or "drain" them.
    #[serde(default)]
    #[schemars(extend("x-applies" = Applies::AtOnce, "x-example" = "drain"))]
    pub on_vanish: OnVanish,
    /// The share of this backend in relation to the weights of the others; up to 1000.
    #[serde(default = "one")]
    #[schemars(extend("x-applies" = Applies::NewSessions, "x-example" = 2))]
    pub weight: u16,
    /// Concurrent sessions and requests; 0: no limit.
    #[serde(default)]
    #[schemars(extend("x-applies" = Applies::NewSessions, "x-example" = 1000))]
    #[schemars(extend("x-limit" = "the other backends are used; if all are full, clients wait in the queue, or get 503 with Retry-After (`backends-full`)"))]
    pub max_sessions: u32,
    /// TLS settings for an address that begins with wss:// or https://.
    #[serde(default)]
    pub tls: BackendTls,
    /// Local addresses from which connections to the backend are opened, in turn; each allows about 28,000 connections. []: the system chooses.
    #[serde(default)]
    #[schemars(extend("x-applies" = Applies::NewSessions, "x-example" = ["10.0.0.7"]))]
    pub sources: Vec<IpAddr>,
    /// "v1" or "v2": a PROXY header, sent before TLS, names the client's address; "off": no header.
    #[serde(default)]
    #[schemars(extend("x-applies" = Applies::NewSessions, "x-example" = "v2"))]
    pub proxy_protocol: BackendProxyProtocol,
    /// Whether a connection to the backend serves several plain requests, possibly of several clients. "off": each request has its own connection, which a server that leaves request bodies unread needs. A request with a body has its own connection in any case, unless its method is POST, PUT or PATCH. NTLM and Negotiate need "on".
    #[serde(default)]
    #[schemars(extend("x-applies" = Applies::NewSessions, "x-example" = "off"))]
    pub reuse: Reuse,
    /// The `Host` that this backend receives, also in health checks, such as "localhost:9222"; "": that of the route. The name in TLS does not change.
    #[serde(
        default,
        deserialize_with = "host_field::optional",
        skip_serializing_if = "Option::is_none"
    )]
    #[schemars(with = "String", extend("default" = ""))]
    #[schemars(extend("x-applies" = Applies::NewSessions, "x-example" = "localhost:9222"))]
    pub host: Option<HostField>,
}

/// `pools.NAME.backends.tls`
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct BackendTls {
    /// A PEM file with the only CAs that are trusted for this backend; "": the public CAs.
    #[serde(deserialize_with = "file", serialize_with = "or_empty")]
    #[schemars(with = "String", extend("default" = ""))]
    #[schemars(extend("x-applies" = Applies::NewSessions, "x-example" = "backend-ca.pem"))]
    pub ca: Option<PathBuf>,
    /// The name that the backend's certificate must have; "": the host of its address.
    #[serde(deserialize_with = "text", serialize_with = "or_empty")]
    #[schemars(with = "String", extend("default" = ""))]
    #[schemars(extend("x-applies" = Applies::NewSessions, "x-example" = "chat.internal"))]
    pub server_name: Option<String>,
    /// A PEM file with the client certificate that is presented if the backend requests one; "": none.
    #[serde(deserialize_with = "file", serialize_with = "or_empty")]
    #[schemars(with = "String", extend("default" = ""))]
    #[schemars(extend("x-applies" = Applies::NewSessions, "x-example" = "proxy.pem"))]
    pub cert: Option<PathBuf>,
    /// The private key of `cert`.
    #[serde(deserialize_with = "file", serialize_with = "or_empty")]
    #[schemars(with = "String", extend("default" = ""))]
    #[schemars(extend("x-applies" = Applies::NewSessions, "x-example" = "proxy.key"))]
    pub key: Option<PathBuf>,
}

/// `pools.NAME.backends.proxy_protocol`
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum BackendProxyProtocol {
    /// No header is sent.
    #[default]
    Off,
    /// Version 1: one line of text.
    V1,
    /// Version 2: binary.
    V2,
}

/// `pools.NAME.backends.reuse`
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Reuse {
    /// Connections over TCP without TLS and without a PROXY header are kept for further requests.
    #[default]
    On,
    /// Each request has its own connection.
    Off,
}

/// `pools.NAME.backends.on_vanish`
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum OnVanish {
    /// Sessions stay open until they end.
    #[default]
    Keep,
    /// Sessions are closed one by one as configured in `[drain]`, unless the address returns in the meantime.
    Drain,
}

/// The two forms in which a backend may be written.
struct AddressOrTable(Backend);

/// `pools.NAME.health`
#[derive(Debug, Clone, PartialEq, Deserialize, Serialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Health {
    /// How backends are health-checked: "websocket", "http", "tcp", or "off". Without a check the other keys have no effect.
    #[schemars(extend("x-applies" = Applies::AtOnce, "x-example" = "websocket"))]
    pub check: Check,
    /// The path that "websocket" and "http" request.
    #[schemars(extend("x-applies" = Applies::AtOnce, "x-example" = "/health"))]
    pub path: CheckPath,
    /// The time from one check to the next, with a jitter of ± 10 %.
    #[schemars(extend("x-applies" = Applies::AtOnce, "x-example" = "10s"))]
    pub interval: DurationValue,
    /// The time limit of one check, from the dial to the response.
    #[schemars(extend("x-applies" = Applies::AtOnce, "x-example" = "1s"))]
    #[schemars(extend("x-limit" = "the check has failed"))]
    pub timeout: DurationValue,
    /// After this many successful checks in a row a backend that is down counts as up again.
    #[schemars(extend("x-applies" = Applies::AtOnce, "x-example" = 3))]
    #[schemars(extend("x-limit" = "the backend counts as up"))]
    pub rise: u32,
    /// After this many failed checks in a row a backend is marked down; a failure of its very first check is enough alone.
    #[schemars(extend("x-applies" = Applies::AtOnce, "x-example" = 2))]
    #[schemars(extend("x-limit" = "the backend is marked down"))]
    pub fall: u32,
    /// What happens to the sessions of a backend that is marked down: "keep", or "drain", which closes them as configured in `[drain]`.
    #[schemars(extend("x-applies" = Applies::AtOnce, "x-example" = "drain"))]
    pub on_down: OnDown,
}

/// `pools.NAME.health.check`
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Check {
    /// No check is sent.
    #[default]
    Off,
    /// A handshake that must be answered with a valid 101, then a Close. The server sees a client that connects and disconnects.
    Websocket,
    /// A GET that must be answered with 2xx or 3xx.
    Http,
    /// Only a TCP connection: it shows that a process listens.
    Tcp,
}

/// `pools.NAME.health.on_down`
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum OnDown {
    /// Sessions stay open until they end.
    #[default]
    Keep,
    /// Sessions are closed one by one.
    Drain,
}

/// `pools.NAME.passive`
#[derive(Debug, Clone, Copy, PartialEq, Deserialize, Serialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Passive {
    /// After this many failed dials and handshakes, without a successful one between them, a backend is ejected; up to 1000. 0: never. Failed dials count however far apart they are. Handshakes that a connected backend leaves unanswered count once per client address (IPv6: one /64), and those of one client alone eject only if no other client used the backend `within` this time.
    #[schemars(extend("x-applies" = Applies::NewSessions, "x-example" = 10))]
    #[schemars(extend("x-limit" = "the backend is ejected"))]
    pub fails: u32,
    /// The time within which failed handshakes must occur.
    #[schemars(extend("x-applies" = Applies::NewSessions, "x-example" = "30s"))]
    #[schemars(extend("x-limit" = "earlier failed handshakes no longer count"))]
    pub within: DurationValue,
    /// How long the backend stays ejected. After failed dials it then stays ejected until a connect of Lockgate's own succeeds.
    #[schemars(extend("x-applies" = Applies::NewSessions, "x-example" = "60s"))]
    #[schemars(extend("x-limit" = "the backend receives new sessions and requests again"))]
    pub eject: DurationValue,
}

/// `pools.NAME.all_down`
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum AllDown {
    /// All backends are tried all the same.
    #[default]
    Try,
    /// Clients get 503 at once.
    Refuse,
}

// === impl Pool ===

impl Pool {
    /// Returns the pool of a route with `to`: one backend with default settings.
    pub fn of(address: &Located<BackendSource>) -> Self {
        let alone = Located {
            value: Backend::at(address.value.clone()),
            at: address.at,
        };
        Pool {
            backends: vec![alone],
            balance: Balance::default(),
            hash: ip(),
            sticky: Sticky::default(),
            health: Located::default(),
            passive: Passive::default(),
            all_down: AllDown::default(),
            connect_timeout: two_seconds(),
            retry: Retry::default(),
            admission: Admission::default(),
            slow_start: at_once(),
            rebalance: Rebalance::default(),
        }
    }
}

// === impl Retry ===

impl Default for Retry {
    fn default() -> Self {
        Retry {
            times: 2,
            within: default("5s"),
        }
    }
}

// === impl Admission ===

impl Default for Admission {
    fn default() -> Self {
        Admission {
            handshakes: 64,
            queue: 1000,
            wait: default("10s"),
        }
    }
}

// === impl Backend ===

impl Backend {
    /// Returns the backend at `address` with default settings.
    pub fn at(address: BackendSource) -> Self {
        Backend {
            address,
            resolve: ten_seconds(),
            on_vanish: OnVanish::default(),
            weight: one(),
            max_sessions: 0,
            tls: BackendTls::default(),
            sources: Vec::new(),
            proxy_protocol: BackendProxyProtocol::Off,
            reuse: Reuse::default(),
            host: None,
        }
    }
}

// === impl BackendTls ===

impl BackendTls {
    /// Resolves the file names relative to the directory of the file that names them.
    pub(crate) fn place_in(&mut self, folder: &Path) {
        let files = [&mut self.ca, &mut self.cert, &mut self.key];
        for file in files.into_iter().flatten() {
            *file = folder.join(&*file);
        }
    }
}

// === impl AddressOrTable ===

impl<'de> Deserialize<'de> for AddressOrTable {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct BackendVisitor;

        impl<'de> Visitor<'de> for BackendVisitor {
            type Value = Backend;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(
                    "an address, such as \"ws://127.0.0.1:8765\", or a table with `address`",
                )
            }

            fn visit_str<E: Error>(self, text: &str) -> Result<Backend, E> {
                let address = text.parse().map_err(BadValue::into_error)?;
                Ok(Backend::at(address))
            }

            fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<Backend, A::Error> {
                Backend::deserialize(MapAccessDeserializer::new(map))
            }
        }

        deserializer
            .deserialize_any(BackendVisitor)
            .map(AddressOrTable)
    }
}

impl JsonSchema for AddressOrTable {
    fn schema_name() -> std::borrow::Cow<'static, str> {
        "AddressOrTable".into()
    }

    fn inline_schema() -> bool {
        true
    }

    fn json_schema(generator: &mut SchemaGenerator) -> Schema {
        let address = generator.subschema_for::<BackendSource>();
        let table = generator.subschema_for::<Backend>();
        json_schema!({ "anyOf": [address, table] })
    }
}

// === impl Health ===

impl Default for Health {
    fn default() -> Self {
        Health {
            check: Check::default(),
            path: default("/"),
            interval: default("5s"),
            timeout: default("2s"),
            rise: 2,
            fall: 3,
            on_down: OnDown::default(),
        }
    }
}

// === impl Passive ===

impl Default for Passive {
    fn default() -> Self {
        Passive {
            fails: 5,
            within: default("10s"),
            eject: default("30s"),
        }
    }
}

/// Deserializes `backends`: addresses, or tables with an address and further settings.
fn backends<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<Located<Backend>>, D::Error> {
    let written = Vec::<Located<AddressOrTable>>::deserialize(deserializer)?;
    let backend = |one: Located<AddressOrTable>| Located {
        value: one.value.0,
        at: one.at,
    };
    Ok(written.into_iter().map(backend).collect())
}

fn file<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<PathBuf>, D::Error> {
    Ok(text(deserializer)?.map(PathBuf::from))
}

fn text<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<String>, D::Error> {
    let text = String::deserialize(deserializer)?;
    Ok((!text.is_empty()).then_some(text))
}

/// Serializes an absent value as "".
fn or_empty<T: Serialize, S: Serializer>(
    written: &Option<T>,
    serializer: S,
) -> Result<S::Ok, S::Error> {
    match written {
        Some(written) => written.serialize(serializer),
        None => serializer.serialize_str(""),
    }
}

fn one() -> u16 {
    1
}

fn two_seconds() -> DurationValue {
    default("2s")
}

fn ten_seconds() -> DurationValue {
    default("10s")
}

fn at_once() -> DurationValue {
    default("0s")
}

fn ip() -> HashKey {
    default("ip")
}
