//! `[pools.NAME]`.

mod admission;

pub use admission::{Admission, Retry};

use super::{
    super::{BackendSource, HashKey, Located, Period, Rebalance},
    health::{AllDown, Health, Passive},
    server::default,
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
    /// Where its servers listen: addresses, or tables with an `address` and what else is to be said of it.
    #[serde(deserialize_with = "backends")]
    #[schemars(with = "Vec<AddressOrTable>")]
    pub backends: Vec<Located<Backend>>,
    /// Who gets the next session or request: the backend with the fewest for its weight; each in its turn; the emptier of two taken by chance; or the one that `hash` leads to.
    #[serde(default)]
    pub balance: Balance,
    /// What "hash" goes by: "ip", "path", "header:x-user", "cookie:sid" or "query:room"; where a request lacks it, its client's address. A backend with more than 1.25 times its share is passed over. Only with `balance` = "hash".
    #[serde(default = "ip")]
    pub hash: HashKey,
    /// Whether a client comes back to the backend that it had, as long as that is there: by a signed cookie, or by the `sid` of Socket.IO.
    #[serde(default)]
    pub sticky: Sticky,
    /// How backends are asked whether they are well.
    #[serde(default)]
    pub health: Located<Health>,
    /// What sessions and requests tell of their backends.
    #[serde(default)]
    pub passive: Passive,
    /// What happens when all backends are down or ejected: "try" them all the same, or "refuse": 503 at once.
    #[serde(default)]
    pub all_down: AllDown,
    /// Another backend instead of one that fails before the 101, or answers 502, 503 or 504; plain requests that were not sent yet, or may be sent twice.
    #[serde(default)]
    pub retry: Retry,
    /// How many handshakes a backend has at a time; the rest wait in order.
    #[serde(default)]
    pub admission: Admission,
    /// How long a backend that is new or has come back gets only a growing part of what is new, from a tenth on; "0s": all at once.
    #[serde(default = "at_once")]
    pub slow_start: Period,
    /// How fast sessions are closed that backends have above their share, once another is there or back, so that clients who connect again even out; "off": they stay. Only with `balance` = "least-sessions" and `sticky` = "off".
    #[serde(default)]
    pub rebalance: Rebalance,
}

/// One of `pools.NAME.backends`
#[derive(Debug, Clone, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Backend {
    /// Where it listens; its identity across reloads. Behind a name with dns:// or srv:// there are as many backends as DNS has for it.
    pub address: BackendSource,
    /// How often DNS is asked for a name with dns:// or srv://, if the answer itself is not good for less.
    #[serde(default = "ten_seconds")]
    pub resolve: Period,
    /// What happens to the sessions of an address that DNS has no more: "keep" them until they end, or "drain" them.
    #[serde(default)]
    pub on_vanish: OnVanish,
    /// Its share, beside the weights of the others; up to 1000.
    #[serde(default = "one")]
    pub weight: u16,
    /// Sessions and requests at a time; 0: no limit.
    #[serde(default)]
    pub max_sessions: u32,
    /// How TLS is spoken with it, where its address begins with wss:// or https://.
    #[serde(default)]
    pub tls: BackendTls,
    /// Addresses of this machine that connections to it come from, in turn: of each there are some 28,000. []: the system chooses.
    #[serde(default)]
    pub sources: Vec<IpAddr>,
    /// "v1" or "v2": it is told who its clients are by a PROXY header, before TLS.
    #[serde(default)]
    pub proxy_protocol: BackendProxyProtocol,
}

/// `pools.NAME.backends.tls`
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct BackendTls {
    /// A PEM file with the only CAs that are believed; "": the public ones.
    #[serde(deserialize_with = "file", serialize_with = "or_empty")]
    #[schemars(with = "String", extend("default" = ""))]
    pub ca: Option<PathBuf>,
    /// The name that its certificate must have; "": the host of its address.
    #[serde(deserialize_with = "text", serialize_with = "or_empty")]
    #[schemars(with = "String", extend("default" = ""))]
    pub server_name: Option<String>,
    /// A PEM file with the certificate that it is shown, if it asks; "": none.
    #[serde(deserialize_with = "file", serialize_with = "or_empty")]
    #[schemars(with = "String", extend("default" = ""))]
    pub cert: Option<PathBuf>,
    /// The private key of `cert`.
    #[serde(deserialize_with = "file", serialize_with = "or_empty")]
    #[schemars(with = "String", extend("default" = ""))]
    pub key: Option<PathBuf>,
}

/// `pools.NAME.backends.proxy_protocol`
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum BackendProxyProtocol {
    /// It gets none.
    #[default]
    Off,
    /// A line of text.
    V1,
    /// In binary.
    V2,
}

/// `pools.NAME.backends.on_vanish`
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum OnVanish {
    /// They stay.
    #[default]
    Keep,
    /// They are closed one by one, as `drain` says, unless the address comes back meanwhile.
    Drain,
}

/// `pools.NAME.balance`
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Balance {
    /// The fewest sessions and requests for its weight; among equals in turn.
    #[default]
    LeastSessions,
    /// In turn, by weight.
    RoundRobin,
    /// Two by chance and weight, of which the one with fewer for its weight.
    RandomTwo,
    /// Always the same for the same `hash`, as long as it is not overloaded.
    Hash,
}

/// `pools.NAME.sticky`
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Sticky {
    /// Every request goes where it is the turn of.
    #[default]
    Off,
    /// A cookie of Lockgate's says which: `Secure`, `HttpOnly`, `SameSite=Lax`, gone with the browser's session.
    Cookie,
    /// The backend whose polling answer gave the `sid` that a request carries.
    Socketio,
}

// === impl Pool ===

impl Pool {
    /// What stands in `to`, alone.
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
            retry: Retry::default(),
            admission: Admission::default(),
            slow_start: at_once(),
            rebalance: Rebalance::default(),
        }
    }
}

// === impl Backend ===

impl Backend {
    /// An address about which nothing else is said.
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
        }
    }
}

// === impl BackendTls ===

impl BackendTls {
    /// Its files are relative to the folder of the file that names them.
    pub(in crate::config) fn place_in(&mut self, folder: &Path) {
        let files = [&mut self.ca, &mut self.cert, &mut self.key];
        for file in files.into_iter().flatten() {
            *file = folder.join(&*file);
        }
    }
}

/// How a backend may be written.
struct AddressOrTable(Backend);

// === impl AddressOrTable ===

impl<'de> Deserialize<'de> for AddressOrTable {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Either;

        impl<'de> Visitor<'de> for Either {
            type Value = Backend;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(
                    "an address, such as \"ws://127.0.0.1:8765\", or a table with `address`",
                )
            }

            fn visit_str<E: Error>(self, text: &str) -> Result<Backend, E> {
                let address = text.parse().map_err(super::super::BadValue::into_error)?;
                Ok(Backend::at(address))
            }

            fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<Backend, A::Error> {
                Backend::deserialize(MapAccessDeserializer::new(map))
            }
        }

        deserializer.deserialize_any(Either).map(AddressOrTable)
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

/// What is absent is written as "".
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

fn ten_seconds() -> Period {
    default("10s")
}

fn at_once() -> Period {
    default("0s")
}

fn ip() -> HashKey {
    default("ip")
}
