//! `backends` of `[pools.NAME]`: addresses, or tables with an address and further settings.

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
    /// The address; it identifies the backend across reloads. A name with dns:// or srv:// stands for every backend that DNS returns for it.
    pub address: BackendSource,
    /// How often a name with dns:// or srv:// is resolved, unless the TTL of the DNS answer is shorter.
    #[serde(default = "ten_seconds")]
    pub resolve: DurationValue,
    /// What happens to the sessions of an address that DNS no longer returns: "keep" them until they end, or "drain" them.
    #[serde(default)]
    pub on_vanish: OnVanish,
    /// The share of this backend in relation to the weights of the others; up to 1000.
    #[serde(default = "one")]
    pub weight: u16,
    /// Concurrent sessions and requests; 0: no limit.
    #[serde(default)]
    pub max_sessions: u32,
    /// TLS settings for an address that begins with wss:// or https://.
    #[serde(default)]
    pub tls: BackendTls,
    /// Local addresses from which connections to the backend are opened, in turn; each allows about 28,000 connections. []: the system chooses.
    #[serde(default)]
    pub sources: Vec<IpAddr>,
    /// "v1" or "v2": a PROXY header, sent before TLS, names the client's address; "off": no header.
    #[serde(default)]
    pub proxy_protocol: BackendProxyProtocol,
}

/// `pools.NAME.backends.tls`
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct BackendTls {
    /// A PEM file with the only CAs that are trusted for this backend; "": the public CAs.
    #[serde(deserialize_with = "file", serialize_with = "or_empty")]
    #[schemars(with = "String", extend("default" = ""))]
    pub ca: Option<PathBuf>,
    /// The name that the backend's certificate must have; "": the host of its address.
    #[serde(deserialize_with = "text", serialize_with = "or_empty")]
    #[schemars(with = "String", extend("default" = ""))]
    pub server_name: Option<String>,
    /// A PEM file with the client certificate that is presented if the backend requests one; "": none.
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
    /// No header is sent.
    #[default]
    Off,
    /// Version 1: one line of text.
    V1,
    /// Version 2: binary.
    V2,
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
        }
    }
}

// === impl BackendTls ===

impl BackendTls {
    /// Resolves the file names relative to the directory of the file that names them.
    pub(in crate::config) fn place_in(&mut self, folder: &Path) {
        let files = [&mut self.ca, &mut self.cert, &mut self.key];
        for file in files.into_iter().flatten() {
            *file = folder.join(&*file);
        }
    }
}

/// The two forms in which a backend may be written.
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

fn ten_seconds() -> DurationValue {
    default("10s")
}
