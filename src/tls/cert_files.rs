//! One entry of `tls.certificates`: parses two PEM files into a chain, its key and its names, or into diagnostics.
//!
//! `bytes` reads a file; `watch` reloads files that have changed.

use crate::{
    config::{CertificateFiles, Diagnostic, Located},
    net::pem::{FileError, PemContent, bad_pem, bytes, contains, file_error},
    tls::{
        server_config::provider,
        x509::{Validity, names, validity},
    },
};
use rustls::{
    pki_types::{
        CertificateDer, PrivateKeyDer, UnixTime,
        pem::{self, PemObject},
    },
    sign::CertifiedKey,
};
use std::{fs, os::unix::fs::PermissionsExt, path::Path, sync::Arc};
use tracing::warn;

/// A certificate chain with its key, ready to serve.
pub(crate) struct CertKeyPair {
    /// DNS names, wildcards and IP addresses, in lower case; never empty.
    pub(crate) names: Vec<Box<str>>,
    /// The chain and the key.
    pub(crate) key: Arc<CertifiedKey>,
}

/// Reads a pair. Reports the errors of both files together.
pub(crate) fn read(
    entry: &Located<CertificateFiles>,
    problems: &mut Vec<Diagnostic>,
) -> Option<CertKeyPair> {
    let mut report = |error: FileError| {
        problems.push(Diagnostic {
            at: entry.at,
            message: error.message,
            hint: Some(error.hint),
        });
    };
    let chain = chain(&entry.cert).map_err(&mut report);
    let key = key(&entry.key).map_err(&mut report);
    pair(entry, chain.ok()?, key.ok()?).map_err(report).ok()
}

/// Logs a warning for a pair that can be served but is unusual.
pub(crate) fn warn_about_cert(entry: &CertificateFiles, pair: &CertKeyPair) {
    let (cert, key) = (entry.cert.display(), entry.key.display());
    // Group access may be intended (Debian's ssl-cert); access for every user is not.
    if fs::metadata(&entry.key).is_ok_and(|file| file.permissions().mode() & 0o004 != 0) {
        warn!(file = %key, "every user can read this private key; set its mode to 640 or 600");
    }
    let leaf = pair.key.cert.first();
    match leaf.map(|leaf| validity(leaf, UnixTime::now())) {
        Some(Ok(Validity::Expired)) => {
            warn!(file = %cert, "this certificate has expired; clients reject it")
        }
        Some(Ok(Validity::NotYet)) => {
            warn!(file = %cert, "this certificate is not valid yet; is the clock right?")
        }
        // No warning for a CA: self-signed certificates are often marked as one, and most clients accept that.
        _ => {}
    }
}

fn chain(path: &Path) -> Result<Vec<CertificateDer<'static>>, FileError> {
    let bytes = bytes(path)?;
    let shown = path.display();
    let chain = CertificateDer::pem_slice_iter(&bytes)
        .collect::<Result<Vec<_>, _>>()
        .map_err(|error| bad_pem(path, &error))?;
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
    Err(file_error(format!("no certificate in {shown}"), hint))
}

fn key(path: &Path) -> Result<PrivateKeyDer<'static>, FileError> {
    let bytes = bytes(path)?;
    let shown = path.display();
    // Checked first, because the parser reports an encrypted key in the old format as a base64 error.
    if let PemContent::Encrypted = PemContent::of(&bytes) {
        return Err(file_error(
            format!("the key in {shown} is encrypted"),
            "lockgate does not prompt for its password; decrypt it: openssl pkey -in FILE -out key.pem, then chmod 600 key.pem",
        ));
    }
    match PrivateKeyDer::from_pem_slice(&bytes) {
        Ok(key) => Ok(key),
        Err(pem::Error::NoItemsFound) => Err(file_error(
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
        Err(error) => Err(bad_pem(path, &error)),
    }
}

fn pair(
    entry: &CertificateFiles,
    chain: Vec<CertificateDer<'static>>,
    key: PrivateKeyDer<'static>,
) -> Result<CertKeyPair, FileError> {
    let cert = entry.cert.display();
    let leaf = chain
        .first()
        .expect("chain() returns at least one certificate");
    let broken = |error| {
        file_error(
            format!("the certificate in {cert} cannot be used: {error}"),
            "it must be X.509 version 3, not damaged, and have a subjectAltName",
        )
    };
    let names = names(leaf).map_err(broken)?;
    let key = provider()
        .key_provider
        .load_private_key(key)
        .map_err(|error| {
            file_error(
                format!("the key in {} cannot be used: {error}", entry.key.display()),
                "use ECDSA (P-256, P-384), Ed25519, or RSA of at least 2048 bits",
            )
        })?;
    let matches_key = |certificate: &CertificateDer<'static>| {
        CertifiedKey::new(vec![certificate.clone()], key.clone())
            .keys_match()
            .is_ok()
    };
    if !matches_key(leaf) {
        return Err(file_error(
            format!(
                "the key in {} does not belong to the certificate in {cert}",
                entry.key.display()
            ),
            if chain.iter().any(matches_key) {
                "it belongs to a later one in that file: the server's own certificate must be first"
            } else {
                "renewed only one of them? The two must come from the same request"
            },
        ));
    }
    if names.is_empty() {
        return Err(file_error(
            format!("the certificate in {cert} names no host"),
            "clients look only at the subjectAltName, not at the Common Name: have it issued with DNS: or IP: entries",
        ));
    }
    Ok(CertKeyPair {
        names,
        key: Arc::new(CertifiedKey::new(chain, key)),
    })
}

#[cfg(test)]
mod tests;
