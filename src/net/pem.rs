//! The only loader of PEM: certificates, private keys and root stores.
//!
//! [`load_chain`], [`load_key`] and [`load_certificates`] read the files of a TLS server, of limited size, and explain
//! an error with a hint ([`FileError`]). The `read_…` functions read the files of a TLS client and return the parser's
//! error, and the `parse_…` functions do the same with text. Any part of a file that does not parse is an error, also
//! behind the wanted section ([`section`]). Whether a certificate is valid, is that of a CA or belongs to a key is
//! checked by the caller.

pub(crate) mod section;

use crate::{
    fs::{self, ReadError},
    net::pem::section::{BadPem, PemFault, sections},
};
use rustls::{
    RootCertStore,
    pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer, pem::PemObject},
};
use std::{
    path::Path,
    sync::{Arc, LazyLock},
};
use tracing::warn;

/// An error of a file, with a hint.
#[derive(Debug)]
pub(crate) struct FileError {
    pub(crate) message: String,
    pub(crate) hint: String,
}

/// An error of a file of a TLS client.
#[derive(Debug, thiserror::Error)]
pub enum PemError {
    /// The file cannot be read.
    #[error(transparent)]
    Read(#[from] ReadError),
    /// The content is not the expected PEM.
    #[error(transparent)]
    Parse(#[from] BadPem),
    /// The content has no such section.
    #[error("no {0} in it")]
    None(&'static str),
}

/// Reads a certificate chain: one certificate or more.
pub(crate) fn load_chain(path: &Path) -> Result<Vec<CertificateDer<'static>>, FileError> {
    let bytes = read(path)?;
    let chain = parse_certificates(&bytes).map_err(|error| FileError::damaged(path, &error))?;
    if !chain.is_empty() {
        return Ok(chain);
    }
    let hint = match PemContent::of(&bytes) {
        PemContent::Der => {
            "this looks like DER or PKCS #12; convert it: openssl x509 -inform der -in FILE -out cert.pem, \
             or openssl pkcs12 -in FILE -nokeys -out cert.pem"
        }
        _ if contains(&bytes, "PRIVATE KEY-----") => {
            "it holds a private key; are cert and key exchanged?"
        }
        _ => {
            "it must hold the chain in PEM, \"-----BEGIN CERTIFICATE-----\", the server's own first"
        }
    };
    let shown = path.display();
    Err(FileError::new(format!("no certificate in {shown}"), hint))
}

/// Reads a private key.
pub(crate) fn load_key(path: &Path) -> Result<PrivateKeyDer<'static>, FileError> {
    let bytes = read(path)?;
    let shown = path.display();
    // Checked first, because the parser reports an encrypted key in the old format as a base64 error.
    if let PemContent::Encrypted = PemContent::of(&bytes) {
        return Err(FileError::new(
            format!("the key in {shown} is encrypted"),
            "lockgate does not prompt for its password; decrypt it: openssl pkey -in FILE -out key.pem, then chmod 600 key.pem",
        ));
    }
    match parse_key(&bytes) {
        Ok(Some(key)) => Ok(key),
        Ok(None) => Err(FileError::new(
            format!("no private key in {shown}"),
            match PemContent::of(&bytes) {
                PemContent::Der => {
                    "this looks like DER or PKCS #12; convert it: openssl pkey -inform der -in FILE -out key.pem, \
                     or openssl pkcs12 -in FILE -nocerts -nodes -out key.pem"
                }
                PemContent::OpenSsh => {
                    "it is an OpenSSH key; TLS needs PEM as openssl genpkey writes it"
                }
                _ if contains(&bytes, "BEGIN CERTIFICATE-----") => {
                    "it holds a certificate; are cert and key exchanged?"
                }
                _ => {
                    "it must hold a key in PEM: \"-----BEGIN PRIVATE KEY-----\", or EC or RSA PRIVATE KEY"
                }
            },
        )),
        Err(error) => Err(FileError::damaged(path, &error)),
    }
}

/// Reads all certificates of a file, which may have none.
pub(crate) fn load_certificates(path: &Path) -> Result<Vec<CertificateDer<'static>>, FileError> {
    parse_certificates(&read(path)?).map_err(|error| FileError::damaged(path, &error))
}

/// Reads all certificates of a file, which may have none.
pub(crate) fn read_certificates(path: &Path) -> Result<Vec<CertificateDer<'static>>, PemError> {
    Ok(parse_certificates(&read_file(path)?)?)
}

/// Reads a private key.
pub(crate) fn read_key(path: &Path) -> Result<PrivateKeyDer<'static>, PemError> {
    parse_key(&read_file(path)?)?.ok_or(PemError::None("private key"))
}

/// Reads trust roots. A certificate that cannot be a root is skipped with a warning, so that the store may be empty.
pub(crate) fn read_roots(path: &Path) -> Result<RootCertStore, PemError> {
    let mut roots = RootCertStore::empty();
    for certificate in read_certificates(path)? {
        if let Err(error) = roots.add(certificate) {
            warn!(file = %path.display(), %error, "skipped a CA certificate that cannot be used");
        }
    }
    Ok(roots)
}

/// Returns the roots of the public CAs, about 150; shared by all clients.
pub(crate) fn public_roots() -> Arc<RootCertStore> {
    static PUBLIC_ROOTS: LazyLock<Arc<RootCertStore>> = LazyLock::new(|| {
        let roots = webpki_roots::TLS_SERVER_ROOTS.iter().cloned();
        Arc::new(RootCertStore::from_iter(roots))
    });
    PUBLIC_ROOTS.clone()
}

/// Parses all certificates of a text, which may have none.
pub(crate) fn parse_certificates(pem: &[u8]) -> Result<Vec<CertificateDer<'static>>, BadPem> {
    all(pem)
}

/// Parses the first certificate of a text.
pub(crate) fn parse_certificate(pem: &[u8]) -> Result<Option<CertificateDer<'static>>, BadPem> {
    first(pem)
}

/// Parses the first private key of a text, in any format.
pub(crate) fn parse_key(pem: &[u8]) -> Result<Option<PrivateKeyDer<'static>>, BadPem> {
    first(pem)
}

/// Parses the first private key in PKCS #8.
pub(crate) fn parse_pkcs8_key(pem: &[u8]) -> Result<Option<PrivatePkcs8KeyDer<'static>>, BadPem> {
    first(pem)
}

fn all<T: PemObject>(pem: &[u8]) -> Result<Vec<T>, BadPem> {
    let sections = sections(pem)?.into_iter();
    Ok(sections
        .filter_map(|section| T::from_pem(section.kind?, section.der))
        .collect())
}

fn first<T: PemObject>(pem: &[u8]) -> Result<Option<T>, BadPem> {
    Ok(all(pem)?.into_iter().next())
}

fn read(path: &Path) -> Result<Vec<u8>, FileError> {
    read_file(path).map_err(|error| {
        let hint = match &error {
            ReadError::TooLarge { .. } => {
                "that is no certificate and no key; is it the right file?"
            }
            error => error.hint(),
        };
        let message = match &error {
            ReadError::Missing(path) => format!("there is no file {}", absolute(path)),
            error => error.to_string(),
        };
        FileError::new(message, hint)
    })
}

fn read_file(path: &Path) -> Result<Vec<u8>, ReadError> {
    fs::read(path, MAX_FILE_LEN)
}

/// Returns the path as text, absolute, because the working directory is not always known to the reader.
fn absolute(path: &Path) -> String {
    let absolute = std::path::absolute(path);
    absolute.map_or_else(
        |_| path.display().to_string(),
        |path| path.display().to_string(),
    )
}

// === impl FileError ===

impl FileError {
    pub(crate) fn new(message: String, hint: impl Into<String>) -> FileError {
        FileError {
            message,
            hint: hint.into(),
        }
    }

    fn damaged(path: &Path, error: &BadPem) -> FileError {
        let (path, line) = (path.display(), error.line);
        match &error.fault {
            PemFault::NotX509 => FileError::new(
                format!("the certificate in line {line} of {path} cannot be used: it is not X.509"),
                "it must be X.509 version 3, and not damaged: copy it again",
            ),
            PemFault::Glued => FileError::new(
                format!("{path} is damaged in {error}"),
                "put a line break between them: a file without one at its end was joined with another by `cat`",
            ),
            PemFault::UnknownLabel(label) if label == "TRUSTED CERTIFICATE" => FileError::new(
                format!("{path} is damaged in {error}"),
                "convert it: openssl x509 -in FILE -out cert.pem",
            ),
            PemFault::UnknownLabel(label) if label == "PKCS7" || label == "CMS" => FileError::new(
                format!("{path} is damaged in {error}"),
                "convert it: openssl pkcs7 -in FILE -print_certs -out cert.pem",
            ),
            _ => FileError::new(
                format!("{path} is damaged in {error}"),
                "copy it again, whole, with its BEGIN and END lines",
            ),
        }
    }
}

/// The detected format of a file that does not contain the expected PEM.
enum PemContent {
    Encrypted,
    OpenSsh,
    Der,
    Other,
}

// === impl PemContent ===

impl PemContent {
    fn of(bytes: &[u8]) -> PemContent {
        if contains(bytes, "BEGIN ENCRYPTED PRIVATE KEY") || contains(bytes, "4,ENCRYPTED") {
            PemContent::Encrypted
        } else if contains(bytes, "BEGIN OPENSSH PRIVATE KEY") {
            PemContent::OpenSsh
        } else if bytes.starts_with(&[0x30]) && std::str::from_utf8(bytes).is_err() {
            // The tag of a DER SEQUENCE, which is the digit zero in text.
            PemContent::Der
        } else {
            PemContent::Other
        }
    }
}

fn contains(bytes: &[u8], text: &str) -> bool {
    bytes
        .windows(text.len())
        .any(|part| part == text.as_bytes())
}

/// The maximum file size. A chain of four with RSA keys is 8 KiB; a wrong path may be a log or an endless device.
const MAX_FILE_LEN: u64 = 1024 * 1024;
