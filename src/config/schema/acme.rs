//! `[acme]`.

use super::super::{AcmeDirectory, DurationValue, MailAddress, Secret};
use schemars::JsonSchema;
use serde::{Deserialize, Deserializer, Serialize};
use std::{path::PathBuf, time::Duration};

/// `[acme]`
#[derive(Debug, Clone, PartialEq, Deserialize, Serialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Acme {
    /// Where the CA may write to, such as "ops@example.com"; "" for none.
    #[serde(deserialize_with = "contact")]
    #[schemars(with = "String", extend("default" = ""))]
    pub contact: Option<MailAddress>,
    /// The CA: "letsencrypt", "letsencrypt-staging", "zerossl", "google", or the URL of its ACME directory.
    pub directory: AcmeDirectory,
    /// How a host is proven to be ours. Wildcards always go by "dns-01", which needs `dns`.
    pub challenge: Challenge,
    /// The programs that change DNS, for "dns-01".
    pub dns: Option<DnsHook>,
    /// A folder of our own for keys and certificates, relative to the file that names it.
    pub storage: PathBuf,
    /// What a client gets while its host has no certificate yet: a "self-signed" one, or "refuse".
    pub until_issued: UntilIssued,
    /// External account binding, as ZeroSSL and Google want it.
    pub eab: Eab,
    /// A PEM file with the root of a private CA, for the directory's own TLS; "": the public roots.
    #[serde(deserialize_with = "file")]
    #[schemars(with = "String", extend("default" = ""))]
    pub ca_file: Option<PathBuf>,
    /// The first wait after a failure. It doubles up to "6h", and ± 20 % of it is chance.
    pub retry: DurationValue,
}

/// `acme.challenge`
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
pub enum Challenge {
    /// The CA connects to port 443 (RFC 8737).
    #[serde(rename = "tls-alpn-01")]
    TlsAlpn01,
    /// The CA asks on port 80 (RFC 8555 §8.3).
    #[serde(rename = "http-01")]
    Http01,
    /// The CA looks for a TXT record (RFC 8555 §8.4).
    #[serde(rename = "dns-01")]
    Dns01,
}

/// `acme.dns`
#[derive(Debug, Clone, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct DnsHook {
    /// An executable that is called with a name and a value, sets that TXT record, and returns when the world can see it.
    pub present: PathBuf,
    /// An executable that is called with the same, and takes the record away.
    pub cleanup: PathBuf,
}

/// `acme.until_issued`
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum UntilIssued {
    /// A certificate that no client believes, but that shows that the port answers.
    SelfSigned,
    /// An alert.
    Refuse,
}

/// `acme.eab`: what the CA gave you for your account (RFC 8555 §7.3.4).
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Eab {
    /// The key's name.
    pub kid: String,
    /// The key, in base64url. Better read from the environment: "${EAB_HMAC}".
    pub hmac: Secret,
}

impl Default for Acme {
    fn default() -> Self {
        Acme {
            contact: None,
            directory: AcmeDirectory::LetsEncrypt,
            challenge: Challenge::TlsAlpn01,
            dns: None,
            storage: PathBuf::from("/var/lib/lockgate"),
            until_issued: UntilIssued::SelfSigned,
            eab: Eab::default(),
            ca_file: None,
            retry: DurationValue(Duration::from_secs(60)),
        }
    }
}

fn contact<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<MailAddress>, D::Error> {
    let text = String::deserialize(deserializer)?;
    if text.is_empty() {
        return Ok(None);
    }
    let parsed = text.parse().map(Some);
    parsed.map_err(super::super::BadValue::into_error)
}

fn file<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<PathBuf>, D::Error> {
    let path = PathBuf::deserialize(deserializer)?;
    Ok((!path.as_os_str().is_empty()).then_some(path))
}
