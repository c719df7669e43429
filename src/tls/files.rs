//! One entry of `tls.certificates`: two PEM files become a chain, its key and its names, or problems that say what to do.

use std::fs::{self, File};
use std::io::{ErrorKind, Read};
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::sync::Arc;

use rustls::pki_types::pem::{self, PemObject};
use rustls::pki_types::{CertificateDer, PrivateKeyDer, UnixTime};
use rustls::sign::CertifiedKey;
use tracing::warn;

use super::policy::provider;
use super::x509::{Standing, names, standing};
use crate::config::{CertificateFiles, Located, Problem};

/// A certificate that can be served.
pub(super) struct Loaded {
    /// DNS names, `*.` names and addresses, in lower case; never empty.
    pub(super) names: Vec<Box<str>>,
    /// Chain and key.
    pub(super) key: Arc<CertifiedKey>,
}

/// Reads a pair. What is wrong with either file is told at once; what is odd but can be served is a warning.
pub(super) fn read(
    entry: &Located<CertificateFiles>,
    problems: &mut Vec<Problem>,
) -> Option<Loaded> {
    let mut told = |fault: Fault| {
        problems.push(Problem {
            at: entry.at,
            message: fault.message,
            hint: Some(fault.hint),
        });
    };
    let chain = chain(&entry.cert).map_err(&mut told);
    let key = key(&entry.key).map_err(&mut told);
    pair(entry, chain.ok()?, key.ok()?).map_err(told).ok()
}

/// What is wrong, and what to do about it.
pub(super) struct Fault {
    pub(super) message: String,
    pub(super) hint: String,
}

pub(super) fn fault(message: String, hint: impl Into<String>) -> Fault {
    Fault {
        message,
        hint: hint.into(),
    }
}

fn chain(path: &Path) -> Result<Vec<CertificateDer<'static>>, Fault> {
    let bytes = bytes(path)?;
    let shown = path.display();
    let chain = CertificateDer::pem_slice_iter(&bytes)
        .collect::<Result<Vec<_>, _>>()
        .map_err(|error| bad_pem(path, &error))?;
    if !chain.is_empty() {
        return Ok(chain);
    }
    let hint = match Content::of(&bytes) {
        Content::Der => {
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
    Err(fault(format!("no certificate in {shown}"), hint))
}

fn key(path: &Path) -> Result<PrivateKeyDer<'static>, Fault> {
    let bytes = bytes(path)?;
    let shown = path.display();
    // Asked first: an old encrypted key is else a mere base64 error.
    if let Content::Encrypted = Content::of(&bytes) {
        return Err(fault(
            format!("the key in {shown} is encrypted"),
            "nobody is there to type its password; decrypt it: openssl pkey -in FILE -out key.pem, then chmod 600 key.pem",
        ));
    }
    match PrivateKeyDer::from_pem_slice(&bytes) {
        Ok(key) => {
            // A group may be meant (Debian's ssl-cert); the whole world is not.
            if fs::metadata(path).is_ok_and(|file| file.permissions().mode() & 0o004 != 0) {
                warn!(file = %shown, "every user may read this private key: chmod 640 or 600 it");
            }
            Ok(key)
        }
        Err(pem::Error::NoItemsFound) => Err(fault(
            format!("no private key in {shown}"),
            match Content::of(&bytes) {
                Content::Der => {
                    "this looks like DER or PKCS #12; convert it: openssl pkey -inform der -in FILE -out key.pem, \
                     or openssl pkcs12 -in FILE -nocerts -nodes -out key.pem"
                }
                Content::OpenSsh => {
                    "it is an OpenSSH key; TLS wants PEM as openssl genpkey writes it"
                }
                _ if contains(&bytes, "BEGIN CERTIFICATE-----") => {
                    "it holds a certificate; are cert and key exchanged?"
                }
                _ => {
                    "it must hold a key in PEM: \"-----BEGIN PRIVATE KEY-----\", or EC or RSA PRIVATE KEY"
                }
            },
        )),
        Err(error) => Err(bad_pem(path, &error)),
    }
}

fn pair(
    entry: &CertificateFiles,
    chain: Vec<CertificateDer<'static>>,
    key: PrivateKeyDer<'static>,
) -> Result<Loaded, Fault> {
    let cert = entry.cert.display();
    let leaf = chain
        .first()
        .expect("a chain without a certificate is a fault");
    let broken = |error| {
        fault(
            format!("the certificate in {cert} cannot be used: {error}"),
            "it must be X.509 version 3, not damaged, and have a subjectAltName",
        )
    };
    let standing = standing(leaf, UnixTime::now()).map_err(broken)?;
    let names = names(leaf).map_err(broken)?;
    let key = provider()
        .key_provider
        .load_private_key(key)
        .map_err(|error| {
            fault(
                format!("the key in {} cannot be used: {error}", entry.key.display()),
                "use ECDSA (P-256, P-384), Ed25519, or RSA of at least 2048 bits",
            )
        })?;
    let belongs = |certificate: &CertificateDer<'static>| {
        CertifiedKey::new(vec![certificate.clone()], key.clone())
            .keys_match()
            .is_ok()
    };
    if !belongs(leaf) {
        return Err(fault(
            format!(
                "the key in {} does not belong to the certificate in {cert}",
                entry.key.display()
            ),
            match chain.iter().any(belongs) {
                true => {
                    "it belongs to a later one in that file: the server's own certificate must stand first"
                }
                false => "renewed only one of them? The two must come from the same request",
            },
        ));
    }
    if names.is_empty() {
        return Err(fault(
            format!("the certificate in {cert} names no host"),
            "clients look only at the subjectAltName, not at the Common Name: have it issued with DNS: or IP: entries",
        ));
    }
    match standing {
        Standing::Expired => {
            warn!(file = %cert, "this certificate has expired: clients will refuse it")
        }
        Standing::NotYet => {
            warn!(file = %cert, "this certificate is not valid yet: is the clock right?")
        }
        // A self-signed one is often a CA by accident; most clients that trust it do not mind.
        Standing::Leaf | Standing::Authority => {}
    }
    Ok(Loaded {
        names,
        key: Arc::new(CertifiedKey::new(chain, key)),
    })
}

pub(super) fn bytes(path: &Path) -> Result<Vec<u8>, Fault> {
    let shown = path.display();
    let mut bytes = Vec::new();
    match File::open(path).and_then(|file| file.take(LARGEST + 1).read_to_end(&mut bytes)) {
        Ok(_) if bytes.len() as u64 > LARGEST => Err(fault(
            format!("{shown} is larger than 1 MiB"),
            "that is no certificate and no key; is it the right file?",
        )),
        Ok(_) => Ok(bytes),
        Err(error) => Err(match error.kind() {
            ErrorKind::NotFound => fault(
                format!("there is no file {shown}"),
                "a relative path begins at the folder of the configuration file",
            ),
            ErrorKind::PermissionDenied => fault(
                format!("this user may not read {shown}"),
                "give the user that runs lockgate the right to read it, and to enter the folders above it",
            ),
            ErrorKind::IsADirectory => fault(format!("{shown} is a folder"), "name the file in it"),
            _ => fault(
                format!("cannot read {shown}: {error}"),
                "see whether the disk or the mount is well",
            ),
        }),
    }
}

pub(super) fn bad_pem(path: &Path, error: &pem::Error) -> Fault {
    fault(
        format!("{} is damaged: {error}", path.display()),
        "copy it again, whole, with its BEGIN and END lines",
    )
}

/// What a file is that is not what we want.
enum Content {
    Encrypted,
    OpenSsh,
    Der,
    Other,
}

impl Content {
    fn of(bytes: &[u8]) -> Content {
        if contains(bytes, "BEGIN ENCRYPTED PRIVATE KEY") || contains(bytes, "4,ENCRYPTED") {
            Content::Encrypted
        } else if contains(bytes, "BEGIN OPENSSH PRIVATE KEY") {
            Content::OpenSsh
        } else if bytes.starts_with(&[0x30]) && std::str::from_utf8(bytes).is_err() {
            // A SEQUENCE in DER; in text it would be the digit zero.
            Content::Der
        } else {
            Content::Other
        }
    }
}

fn contains(bytes: &[u8], text: &str) -> bool {
    bytes
        .windows(text.len())
        .any(|part| part == text.as_bytes())
}

/// A chain of four with RSA keys is 8 KiB; a mistaken path may be a log, or endless.
const LARGEST: u64 = 1024 * 1024;

#[cfg(test)]
mod tests;
