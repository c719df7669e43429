//! One entry of `tls.certificates`: two PEM files become a chain, its key and its names, or diagnostics.
//!
//! `net/pem.rs` reads a file; `certs/reload.rs` reads a pair again after a change.

use crate::{
    config::{CertificateFiles, Diagnostic, Located, Location},
    net::{
        crypto::provider,
        pem::{self, FileError},
    },
    tls::{
        chain,
        x509::{CertInfo, Validity, cert_info, date, names, validity},
    },
};
use rustls::{
    pki_types::{CertificateDer, PrivateKeyDer, UnixTime},
    sign::CertifiedKey,
};
use std::{fs, os::unix::fs::PermissionsExt, sync::Arc};
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
    diagnostics: &mut Vec<Diagnostic>,
) -> Option<CertKeyPair> {
    let mut report = |at: Option<Location>, error: FileError| {
        diagnostics.push(Diagnostic {
            at: at.or(entry.at),
            message: error.message,
            hint: Some(error.hint),
        });
    };
    let chain = pem::load_chain(&entry.cert).map_err(|error| report(entry.cert.at, error));
    let key = pem::load_key(&entry.key).map_err(|error| report(entry.key.at, error));
    let pair = pair(entry, chain.ok()?, key.ok()?);
    pair.map_err(|error| report(None, error)).ok()
}

/// Logs a warning for a pair that can be served but is unusual.
pub(crate) fn warn_about_cert(entry: &CertificateFiles, pair: &CertKeyPair) {
    let (cert, key) = (entry.cert.display(), entry.key.display());
    // Group access may be intended (Debian's ssl-cert); access for every user is not.
    if fs::metadata(&entry.key).is_ok_and(|file| file.permissions().mode() & 0o004 != 0) {
        warn!(file = %key, "every user can read this private key; set its mode to 640 or 600");
    }
    let leaf = pair.key.cert.first();
    let shown = |time: fn(CertInfo) -> i64| leaf.and_then(cert_info).map(time).map(date);
    match leaf.map(|leaf| validity(leaf, UnixTime::now())) {
        Some(Ok(Validity::Expired)) => {
            let not_after = shown(|info| info.not_after);
            warn!(file = %cert, not_after, "this certificate has expired; clients reject it")
        }
        Some(Ok(Validity::NotYet)) => {
            let not_before = shown(|info| info.not_before);
            warn!(file = %cert, not_before, "this certificate is not valid yet; is the clock right?")
        }
        // No warning for a CA: self-signed certificates are often marked as one, and most clients accept that.
        _ => {}
    }
    if let Some(problem) = chain::warning(&pair.key.cert, UnixTime::now()) {
        warn!(file = %cert, %problem, "clients may reject this certificate");
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
        .expect("load_chain returns at least one certificate");
    let broken = |error| {
        FileError::new(
            format!("the certificate in {cert} cannot be used: {error}"),
            "it must be X.509 version 3, not damaged, and have a subjectAltName",
        )
    };
    let names = names(leaf).map_err(broken)?;
    let key = provider()
        .key_provider
        .load_private_key(key)
        .map_err(|error| {
            FileError::new(
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
        return Err(FileError::new(
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
        return Err(FileError::new(
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
