//! `backends` of `[pools.NAME]`: addresses, or tables with an address and what else is to be said of it.

use super::{
    super::super::{BackendSource, BadValue, DurationValue, Located},
    default,
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

/// One of `pools.NAME.backends`
#[derive(Debug, Clone, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Backend {
    /// Where it listens; its identity across reloads. Behind a name with dns:// or srv:// there are as many backends as DNS has for it.
    pub address: BackendSource,
    /// How often DNS is asked for a name with dns:// or srv://, if the answer itself is not good for less.
    #[serde(default = "ten_seconds")]
    pub resolve: DurationValue,
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
pub(super) struct AddressOrTable(Backend);

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

pub(super) fn backends<'de, D: Deserializer<'de>>(
    deserializer: D,
) -> Result<Vec<Located<Backend>>, D::Error> {
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

fn ten_seconds() -> DurationValue {
    default("10s")
}
