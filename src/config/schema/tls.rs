//! `[tls]` and `[acme]`.

use crate::config::{
    diagnostic::Located,
    schema::applies::Applies,
    values::{
        self,
        acme::{AcmeDirectory, MailAddress, Secret},
        units::DurationValue,
    },
};
use schemars::JsonSchema;
use serde::{Deserialize, Deserializer, Serialize};
use std::{path::PathBuf, time::Duration};

/// `[tls]`
#[derive(Debug, Clone, Deserialize, Serialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Tls {
    /// The minimum TLS version: "1.2" or "1.3".
    #[schemars(extend("x-applies" = Applies::NewConnections, "x-example" = "1.3"))]
    pub min_version: TlsVersion,
    /// PEM files; the names are read from the certificates. Paths are relative to the file that names them. A pair is
    /// reloaded when its files change.
    #[schemars(extend("x-applies" = Applies::NewConnections, "x-example" = [{"cert": "chat.pem", "key": "chat.key"}]))]
    pub certificates: Vec<Located<CertificateFiles>>,
    /// The name whose certificate is presented if the SNI is unknown or absent; "": such clients get a TLS alert.
    #[serde(deserialize_with = "name")]
    #[schemars(with = "String", extend("default" = ""))]
    #[schemars(extend("x-applies" = Applies::NewConnections, "x-example" = "chat.example.com"))]
    pub default: Option<Located<String>>,
    /// A PEM file with the CAs that are trusted for client certificates, for routes with `client_cert`; "": none.
    #[serde(deserialize_with = "located_path")]
    #[schemars(with = "String", extend("default" = ""))]
    #[schemars(extend("x-applies" = Applies::NewConnections, "x-example" = "clients-ca.pem"))]
    pub client_ca: Option<Located<PathBuf>>,
    /// `true`: routed hosts without a certificate get one from a development CA on this machine (`lockgate cert trust`). Only switching it on requires a restart.
    #[schemars(extend("x-applies" = Applies::Restart, "x-example" = true))]
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
    #[schemars(extend("x-applies" = Applies::NewConnections, "x-example" = "chat.pem"))]
    pub cert: Located<PathBuf>,
    /// The private key of the certificate, without a password.
    #[schemars(extend("x-applies" = Applies::NewConnections, "x-example" = "chat.key"))]
    pub key: Located<PathBuf>,
}

/// `[acme]`
#[derive(Debug, Clone, PartialEq, Deserialize, Serialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Acme {
    /// The mail address for notices of the CA, such as "ops@example.com"; "" for none.
    #[serde(deserialize_with = "contact")]
    #[schemars(with = "String", extend("default" = ""))]
    #[schemars(extend("x-applies" = Applies::Restart, "x-example" = "ops@example.com"))]
    pub contact: Option<MailAddress>,
    /// The CA: "letsencrypt", "letsencrypt-staging", "zerossl", "google", or the URL of its ACME directory.
    #[schemars(extend("x-applies" = Applies::Restart, "x-example" = "letsencrypt-staging"))]
    pub directory: AcmeDirectory,
    /// How control over a host is proven to the CA. Wildcards always use "dns-01", which needs `dns`.
    #[schemars(extend("x-applies" = Applies::Restart, "x-example" = "http-01"))]
    pub challenge: Challenge,
    /// The programs that change DNS records, for "dns-01".
    pub dns: Option<DnsHook>,
    /// A directory that only Lockgate uses, for keys and certificates; relative to the file that names it.
    #[schemars(extend("x-applies" = Applies::Restart, "x-example" = "/srv/lockgate"))]
    pub storage: PathBuf,
    /// What a client gets while the host has no certificate yet: a "self-signed" one, or a TLS alert ("refuse").
    #[schemars(extend("x-applies" = Applies::Restart, "x-example" = "refuse"))]
    pub until_issued: UntilIssued,
    /// External account binding, which ZeroSSL and Google require.
    pub eab: Eab,
    /// A PEM file with the root certificate of a private CA, to verify the directory's HTTPS server; "": the public roots.
    #[serde(deserialize_with = "path")]
    #[schemars(with = "String", extend("default" = ""))]
    #[schemars(extend("x-applies" = Applies::Restart, "x-example" = "/etc/lockgate/ca.pem"))]
    pub ca_file: Option<PathBuf>,
    /// The first wait after a failure. It doubles up to "6h", with a jitter of ± 20 %.
    #[schemars(extend("x-applies" = Applies::Restart, "x-example" = "5m"))]
    pub retry: DurationValue,
}

/// `acme.challenge`
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
pub enum Challenge {
    /// The CA connects to port 443 (RFC 8737).
    #[serde(rename = "tls-alpn-01")]
    TlsAlpn01,
    /// The CA sends a request to port 80 (RFC 8555 §8.3).
    #[serde(rename = "http-01")]
    Http01,
    /// The CA queries DNS for a TXT record (RFC 8555 §8.4).
    #[serde(rename = "dns-01")]
    Dns01,
}

/// `acme.dns`
#[derive(Debug, Clone, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct DnsHook {
    /// An executable that is called with a name and a value, creates that TXT record, and returns once it is visible in public DNS.
    #[schemars(extend("x-applies" = Applies::Restart, "x-example" = "/etc/lockgate/dns-present"))]
    pub present: PathBuf,
    /// An executable that is called with the same arguments and removes the record.
    #[schemars(extend("x-applies" = Applies::Restart, "x-example" = "/etc/lockgate/dns-cleanup"))]
    pub cleanup: PathBuf,
}

/// `acme.until_issued`
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum UntilIssued {
    /// A certificate that no client trusts, but that shows that the port answers.
    SelfSigned,
    /// A TLS alert.
    Refuse,
}

/// `acme.eab`: what the CA gave you for your account (RFC 8555 §7.3.4).
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Eab {
    /// The key's name.
    #[schemars(extend("x-applies" = Applies::Restart, "x-example" = "kid-1"))]
    pub kid: String,
    /// The key, in base64url. Better read from the environment: "${EAB_HMAC}".
    #[schemars(extend("x-applies" = Applies::Restart, "x-example" = "${EAB_HMAC}"))]
    pub hmac: Secret,
}

// === impl Tls ===

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

// === impl Acme ===

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

fn contact<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<MailAddress>, D::Error> {
    let text = String::deserialize(deserializer)?;
    if text.is_empty() {
        return Ok(None);
    }
    let parsed = text.parse().map(Some);
    parsed.map_err(values::BadValue::into_error)
}

fn path<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<PathBuf>, D::Error> {
    let path = PathBuf::deserialize(deserializer)?;
    Ok((!path.as_os_str().is_empty()).then_some(path))
}
