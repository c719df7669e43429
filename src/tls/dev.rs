//! The development CA: `wss://` on a laptop, without a certificate from anyone.
//!
//! It has no name constraints: it is made once, before the names are known that it will be used for. What limits it:
//! no CA below it, server certificates only, a key that only its owner reads, and that nobody trusts it unasked.

mod folder;

use std::io;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use rcgen::{
    BasicConstraints, CertificateParams, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair,
    KeyUsagePurpose,
};
use rustls::pki_types::{PrivateKeyDer, PrivatePkcs8KeyDer};
use rustls::sign::CertifiedKey;

use super::policy::provider;

/// A local certificate authority, for development only.
#[derive(Debug)]
pub struct DevCa {
    certificate: PathBuf,
    issuer: Issuer<'static, KeyPair>,
}

/// Why there is no development CA, or no certificate from it.
#[derive(Debug, thiserror::Error)]
pub enum DevCaError {
    /// None of the variables that say where data goes is set.
    #[error("there is no folder to keep the development CA in: set LOCKGATE_DATA to one")]
    NoFolder,
    /// Nothing could be written.
    #[error("cannot make the development CA in {path}")]
    Write {
        /// The file or folder.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// The files are there, and cannot be read.
    #[error("cannot read {path} of the development CA")]
    Read {
        /// The file or folder.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// The files are there, and are of no use. They are never overwritten: clients may trust them.
    #[error(
        "{path} of the development CA {what}: restore it from a copy, or remove the folder {} so that a new CA is made, \
         which every client must then trust", path.parent().unwrap_or(path).display()
    )]
    Unusable {
        /// The file.
        path: PathBuf,
        /// A predicate: "has expired".
        what: String,
    },
    /// A key or certificate could not be made: a name that no certificate can carry, or no random bytes.
    #[error("cannot make a certificate")]
    Issue(#[source] rcgen::Error),
    /// What was made could not be used, which is a fault of ours.
    #[error("cannot use the certificate that was made")]
    Use(#[source] rustls::Error),
}

// === impl DevCa ===

impl DevCa {
    /// The CA below `folder`, made if there is none yet. Processes that come at once end with the same one.
    ///
    /// # Errors
    /// When it can neither be read nor made.
    pub fn open(folder: &Path) -> Result<DevCa, DevCaError> {
        folder::open(&folder.join(FOLDER))
    }

    /// The CA below `folder`, or one that is kept nowhere if there is none yet: to see what a configuration would do.
    ///
    /// # Errors
    /// When there is one that cannot be read.
    pub fn open_existing(folder: &Path) -> Result<DevCa, DevCaError> {
        folder::peek(&folder.join(FOLDER))
    }

    /// `$LOCKGATE_DATA`, else `$XDG_DATA_HOME/lockgate`, else `$HOME/.local/share/lockgate`.
    ///
    /// # Errors
    /// When none of them is set.
    pub fn default_folder() -> Result<PathBuf, DevCaError> {
        data_folder(|name| std::env::var_os(name).map(PathBuf::from)).ok_or(DevCaError::NoFolder)
    }

    /// The PEM file for clients to trust.
    pub fn certificate_path(&self) -> &Path {
        &self.certificate
    }

    /// A fresh key and a certificate for these DNS names and addresses. Neither is kept in a file.
    ///
    /// # Errors
    /// When a name cannot stand in a certificate.
    pub fn issue(&self, names: &[String]) -> Result<CertifiedKey, DevCaError> {
        let key = KeyPair::generate().map_err(DevCaError::Issue)?;
        let certificate = leaf(names)
            .and_then(|leaf| leaf.signed_by(&key, &self.issuer))
            .map_err(DevCaError::Issue)?;
        let key = PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(key.serialize_der()));
        CertifiedKey::from_der(vec![certificate.into()], key, &provider()).map_err(DevCaError::Use)
    }
}

/// What the CA's own certificate says.
fn authority() -> Result<CertificateParams, rcgen::Error> {
    let mut params = dated(CertificateParams::new([])?, AUTHORITY_LIFE);
    params
        .distinguished_name
        .push(DnType::CommonName, common_name(&host_name()));
    params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign];
    // A thief of the key could pose as a server, but sign no mail and no program.
    params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
    Ok(params)
}

fn leaf(names: &[String]) -> Result<CertificateParams, rcgen::Error> {
    // The subject stays empty: the names stand in the subjectAltName, which is where clients look (RFC 9525 §2).
    let mut params = dated(CertificateParams::new(names)?, LEAF_LIFE);
    params.is_ca = IsCa::ExplicitNoCa;
    params.use_authority_key_identifier_extension = true;
    params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
    params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
    Ok(params)
}

/// From a day ago, for clocks that differ, with an empty subject.
fn dated(mut params: CertificateParams, life: Duration) -> CertificateParams {
    // A clock before 1970 is wrong by so much that no date would help.
    let now = SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .unwrap_or_default();
    let epoch = rcgen::date_time_ymd(1970, 1, 1);
    params.not_before = epoch + now - DAY;
    params.not_after = epoch + now + life;
    params.distinguished_name = rcgen::DistinguishedName::new();
    params
}

/// The host tells apart the CAs of several machines in one trust store.
fn common_name(host: &str) -> String {
    let host: String = host
        .chars()
        .filter(|c| c.is_ascii_alphanumeric() || "-_.".contains(*c))
        .take(COMMON_NAME - TITLE.len() - " ()".len())
        .collect();
    match host.is_empty() {
        true => TITLE.to_owned(),
        false => format!("{TITLE} ({host})"),
    }
}

fn host_name() -> String {
    std::fs::read_to_string("/proc/sys/kernel/hostname")
        .or_else(|_| std::env::var("HOSTNAME"))
        .unwrap_or_default()
}

fn data_folder(variable: impl Fn(&str) -> Option<PathBuf>) -> Option<PathBuf> {
    let set = |name| variable(name).filter(|path| !path.as_os_str().is_empty());
    // The XDG base directory specification has relative paths ignored.
    let absolute = |name| set(name).filter(|path| path.is_absolute());
    set("LOCKGATE_DATA")
        .or_else(|| Some(absolute("XDG_DATA_HOME")?.join("lockgate")))
        .or_else(|| Some(absolute("HOME")?.join(".local/share/lockgate")))
}

/// Below the data folder, which later holds other things too.
const FOLDER: &str = "dev-ca";

const TITLE: &str = "Lockgate development CA";

/// The longest Common Name (RFC 5280, appendix A: ub-common-name).
const COMMON_NAME: usize = 64;

const DAY: Duration = Duration::from_secs(24 * 60 * 60);

/// Ten years: trusting a new one is work for every client.
const AUTHORITY_LIFE: Duration = Duration::from_secs(3650 * DAY.as_secs());

/// With the day before now a day less than the 398 that Apple's clients accept.
const LEAF_LIFE: Duration = Duration::from_secs(396 * DAY.as_secs());

#[cfg(test)]
mod tests;
