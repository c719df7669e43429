//! `[tls]`.

use super::super::Located;
use schemars::JsonSchema;
use serde::{Deserialize, Deserializer, Serialize};
use std::path::PathBuf;

/// `[tls]`
#[derive(Debug, Clone, Deserialize, Serialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Tls {
    /// The minimum TLS version: "1.2" or "1.3".
    pub min_version: TlsVersion,
    /// PEM files; the names are read from the certificates. Paths are relative to the file that names them. A pair is
    /// reloaded when its files change.
    pub certificates: Vec<Located<CertificateFiles>>,
    /// The name whose certificate is presented if the SNI is unknown or absent; "": such clients get a TLS alert.
    #[serde(deserialize_with = "name")]
    #[schemars(with = "String", extend("default" = ""))]
    pub default: Option<Located<String>>,
    /// A PEM file with the CAs that are trusted for client certificates, for routes with `client_cert`; "": none.
    #[serde(deserialize_with = "located_path")]
    #[schemars(with = "String", extend("default" = ""))]
    pub client_ca: Option<Located<PathBuf>>,
    /// `true`: routed hosts without a certificate get one from a development CA on this machine (`lockgate cert trust`).
    pub dev_ca: bool,
}

/// `tls.min_version`
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
pub enum TlsVersion {
    /// RFC 5246.
    #[serde(rename = "1.2")]
    V1_2,
    /// RFC 8446.
    #[serde(rename = "1.3")]
    V1_3,
}

/// One of `tls.certificates`
#[derive(Debug, Clone, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct CertificateFiles {
    /// The certificate chain, leaf certificate first.
    pub cert: PathBuf,
    /// The private key of the certificate, without a password.
    pub key: PathBuf,
}

impl Default for Tls {
    fn default() -> Self {
        Tls {
            min_version: TlsVersion::V1_2,
            certificates: Vec::new(),
            default: None,
            client_ca: None,
            dev_ca: false,
        }
    }
}

fn located_path<'de, D: Deserializer<'de>>(
    deserializer: D,
) -> Result<Option<Located<PathBuf>>, D::Error> {
    let file = Located::<PathBuf>::deserialize(deserializer)?;
    Ok((!file.value.as_os_str().is_empty()).then_some(file))
}

fn name<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<Located<String>>, D::Error> {
    let name = Located::<String>::deserialize(deserializer)?;
    Ok((!name.value.is_empty()).then_some(name))
}
