//! The ACME directory, the contact address and the EAB secret.

use crate::config::values::{BadValue, text_value};
use std::{fmt, str::FromStr};

/// An ACME directory: the name of a CA, or a URL (RFC 8555 §7.1.1).
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum AcmeDirectory {
    /// Let's Encrypt.
    LetsEncrypt,
    /// The staging environment of Let's Encrypt: generous rate limits, certificates that no client trusts.
    LetsEncryptStaging,
    /// ZeroSSL; requires `eab`.
    ZeroSsl,
    /// Google Trust Services; requires `eab`.
    Google,
    /// Any other directory, by URL.
    Url(Box<str>),
}

/// A mail address, without "mailto:".
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MailAddress(Box<str>);

/// Text that never appears in a log.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct Secret(Box<str>);

text_value!(
    AcmeDirectory,
    "\"letsencrypt\", \"letsencrypt-staging\", \"zerossl\", \"google\", or the https:// URL of an ACME directory",
    ["letsencrypt", "https://ca.internal/acme/acme/directory"]
);

text_value!(
    MailAddress,
    "a mail address, such as \"ops@example.com\"",
    ["ops@example.com"]
);

text_value!(Secret, "text in quotes", ["${EAB_HMAC}"]);

// === impl AcmeDirectory ===

impl AcmeDirectory {
    /// Returns the URL of the directory.
    pub fn url(&self) -> &str {
        match self {
            AcmeDirectory::LetsEncrypt => "https://acme-v02.api.letsencrypt.org/directory",
            AcmeDirectory::LetsEncryptStaging => {
                "https://acme-staging-v02.api.letsencrypt.org/directory"
            }
            AcmeDirectory::ZeroSsl => "https://acme.zerossl.com/v2/DV90",
            AcmeDirectory::Google => "https://dv.acme-v02.api.pki.goog/directory",
            AcmeDirectory::Url(url) => url,
        }
    }

    /// Returns whether the CA accepts accounts only with external account binding.
    pub fn wants_eab(&self) -> bool {
        matches!(self, AcmeDirectory::ZeroSsl | AcmeDirectory::Google)
    }
}

impl FromStr for AcmeDirectory {
    type Err = BadValue;

    fn from_str(text: &str) -> Result<Self, BadValue> {
        let is_url = || {
            let url = text.parse::<http::Uri>().ok();
            url.is_some_and(|url| url.scheme_str() == Some("https") && url.host().is_some())
        };
        match text {
            "letsencrypt" => Ok(AcmeDirectory::LetsEncrypt),
            "letsencrypt-staging" => Ok(AcmeDirectory::LetsEncryptStaging),
            "zerossl" => Ok(AcmeDirectory::ZeroSsl),
            "google" => Ok(AcmeDirectory::Google),
            _ if is_url() => Ok(AcmeDirectory::Url(text.into())),
            _ if text.starts_with("http://") => Err(BadValue::new(
                format!("`{text}` is not an ACME directory: ACME runs over https only"),
                "write https://; for a private CA name its root in acme.ca_file",
            )),
            _ => Err(BadValue::new(
                format!("`{text}` is not an ACME directory"),
                "write \"letsencrypt\", \"letsencrypt-staging\", \"zerossl\", \"google\", or an https:// URL",
            )),
        }
    }
}

impl fmt::Display for AcmeDirectory {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            AcmeDirectory::LetsEncrypt => "letsencrypt",
            AcmeDirectory::LetsEncryptStaging => "letsencrypt-staging",
            AcmeDirectory::ZeroSsl => "zerossl",
            AcmeDirectory::Google => "google",
            AcmeDirectory::Url(url) => url,
        })
    }
}

// === impl MailAddress ===

impl MailAddress {
    /// Returns the URL form that ACME accounts use (RFC 8555 §7.3).
    pub fn mailto(&self) -> String {
        format!("mailto:{}", self.0)
    }
}

impl FromStr for MailAddress {
    type Err = BadValue;

    fn from_str(text: &str) -> Result<Self, BadValue> {
        let address = text.strip_prefix("mailto:").unwrap_or(text);
        // RFC 8555 §7.3: one address, and no header fields. The CA checks the rest.
        let is_one = address.is_ascii()
            && address
                .bytes()
                .all(|byte| byte.is_ascii_graphic() && !b",?<>".contains(&byte));
        match address.split_once('@') {
            Some((local, domain)) if is_one && !local.is_empty() && domain.contains('.') => {
                Ok(MailAddress(address.into()))
            }
            _ => Err(BadValue::new(
                format!("`{text}` is not a mail address"),
                "write one, such as \"ops@example.com\"",
            )),
        }
    }
}

impl fmt::Display for MailAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

// === impl Secret ===

impl Secret {
    /// Returns the secret text. It must not be logged or displayed.
    pub fn expose(&self) -> &str {
        &self.0
    }
}

impl FromStr for Secret {
    type Err = BadValue;

    fn from_str(text: &str) -> Result<Self, BadValue> {
        Ok(Secret(text.into()))
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secret")
    }
}

/// Shows an empty secret as empty, so that the reference shows the default; any other as "(secret)".
impl fmt::Display for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match &*self.0 {
            "" => "",
            _ => "(secret)",
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn directory_is_a_name_or_an_https_url() {
        for name in ["letsencrypt", "letsencrypt-staging", "zerossl", "google"] {
            let directory: AcmeDirectory = name.parse().unwrap();
            assert_eq!(directory.to_string(), name);
            assert!(directory.url().starts_with("https://"));
        }
        let own: AcmeDirectory = "https://localhost:14000/dir".parse().unwrap();
        assert_eq!(own.url(), "https://localhost:14000/dir");
        for bad in ["", "lets-encrypt", "http://ca.test/dir", "https://"] {
            assert!(bad.parse::<AcmeDirectory>().is_err(), "{bad}");
        }
    }

    #[test]
    fn contact_is_one_mail_address() {
        for good in ["ops@example.com", "mailto:ops@example.com"] {
            let mail: MailAddress = good.parse().unwrap();
            assert_eq!(mail.mailto(), "mailto:ops@example.com");
        }
        for bad in [
            "ops",
            "ops@",
            "@example.com",
            "a@b.c,d@e.f",
            "a@b.c?subject=x",
            "ops@localhost",
        ] {
            assert!(bad.parse::<MailAddress>().is_err(), "{bad}");
        }
    }

    #[test]
    fn debug_and_display_of_a_secret_are_redacted() {
        let secret: Secret = "c2VjcmV0".parse().unwrap();
        assert!(!format!("{secret:?} {secret}").contains("c2VjcmV0"));
    }
}
