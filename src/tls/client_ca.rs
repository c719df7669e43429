//! `tls.client_ca`: whose certificates count when clients are asked for theirs.

use std::path::PathBuf;
use std::sync::Arc;

use rustls::RootCertStore;
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject;
use rustls::server::WebPkiClientVerifier;
use rustls::server::danger::ClientCertVerifier;
use tracing::warn;

use super::policy::provider;
use super::{files, x509};
use crate::config::{Located, Problem};

/// Believes certificates for clients that one of the CAs in `file` has signed. It asks and does not insist: a client
/// without one is refused, where it must be, by an answer that says why.
pub(super) fn verifier(
    file: &Located<PathBuf>,
    problems: &mut Vec<Problem>,
) -> Option<Arc<dyn ClientCertVerifier>> {
    let made = roots(file).and_then(|roots| {
        WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider())
            .allow_unauthenticated()
            .build()
            .map_err(|error| files::fault(format!("it cannot be used: {error}"), HINT))
    });
    made.map_err(|fault| {
        problems.push(Problem {
            at: file.at,
            message: format!("tls.client_ca: {}", fault.message),
            hint: Some(fault.hint),
        });
    })
    .ok()
}

fn roots(file: &Located<PathBuf>) -> Result<RootCertStore, files::Fault> {
    let bytes = files::bytes(file)?;
    let shown = file.display();
    let mut roots = RootCertStore::empty();
    for certificate in CertificateDer::pem_slice_iter(&bytes) {
        let certificate = certificate.map_err(|error| files::bad_pem(file, &error))?;
        // What a trust anchor is used for is not looked at later: a client's own certificate would be one as well.
        if !x509::is_authority(&certificate) || roots.add(certificate).is_err() {
            warn!(file = %shown, "tls.client_ca: a certificate that is no CA's, or cannot be used as one, is left out");
        }
    }
    match roots.is_empty() {
        true => Err(files::fault(
            format!("no certificate of a CA in {shown}"),
            HINT,
        )),
        false => Ok(roots),
    }
}

const HINT: &str = "it must hold, in PEM, the certificate of the CA that signs those of your clients: \
    \"-----BEGIN CERTIFICATE-----\", with basicConstraints CA:TRUE";
