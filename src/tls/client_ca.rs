//! `tls.client_ca`: the CAs that client certificates are verified against.

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
use crate::config::{Diagnostic, Located};

/// Returns a verifier that trusts client certificates signed by one of the CAs in `file`. It requests a certificate but
/// does not require one: a client without one is refused later, by an HTTP response that states the reason.
pub(super) fn verifier(
    file: &Located<PathBuf>,
    problems: &mut Vec<Diagnostic>,
) -> Option<Arc<dyn ClientCertVerifier>> {
    let verifier = roots(file).and_then(|roots| {
        WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider())
            .allow_unauthenticated()
            .build()
            .map_err(|error| files::file_error(format!("it cannot be used: {error}"), HINT))
    });
    verifier
        .map_err(|error| {
            problems.push(Diagnostic {
                at: file.at,
                message: format!("tls.client_ca: {}", error.message),
                hint: Some(error.hint),
            });
        })
        .ok()
}

fn roots(file: &Located<PathBuf>) -> Result<RootCertStore, files::FileError> {
    let bytes = files::bytes(file)?;
    let shown = file.display();
    let mut roots = RootCertStore::empty();
    for certificate in CertificateDer::pem_slice_iter(&bytes) {
        let certificate = certificate.map_err(|error| files::bad_pem(file, &error))?;
        // webpki does not check that a trust anchor is a CA certificate, so a client's own certificate would be
        // accepted.
        if !x509::is_authority(&certificate) || roots.add(certificate).is_err() {
            warn!(file = %shown, "tls.client_ca: skipped a certificate that is not a usable CA certificate");
        }
    }
    if roots.is_empty() {
        return Err(files::file_error(
            format!("no usable CA certificate in {shown}"),
            HINT,
        ));
    }
    Ok(roots)
}

const HINT: &str = "it must hold, in PEM, the certificate of the CA that signs those of your clients: \
    \"-----BEGIN CERTIFICATE-----\", with basicConstraints CA:TRUE";

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tls::testing::{LOCATION, Pki};

    #[test]
    fn file_without_a_ca_is_reported() {
        let pki = Pki::new();
        let leaf = pki.pair("leaf", &["a.test"]);
        let pem = |path| std::fs::read_to_string(path).unwrap();
        let (leaf, key) = (pem(&leaf.cert), pem(&leaf.key));
        let both = format!("{leaf}{}", pki.ca_pem());
        let cut = &pki.ca_pem()[..100];
        for (text, expected) in [
            (Some(pki.ca_pem().as_str()), None),
            (Some(&both), None),
            (Some(&leaf), Some("no usable CA certificate in ")),
            (Some(&key), Some("no usable CA certificate in ")),
            (Some(""), Some("no usable CA certificate in ")),
            (Some(cut), Some("is damaged")),
            (None, Some("there is no file ")),
        ] {
            let mut problems = vec![];
            let value = match text {
                Some(text) => pki.write("clients.pem", text),
                None => pki.path("none.pem"),
            };
            let verifier = verifier(
                &Located {
                    value,
                    at: LOCATION,
                },
                &mut problems,
            );
            assert_eq!(verifier.is_some(), expected.is_none(), "{problems:?}");
            let found: Vec<_> = problems.iter().map(|it| (it.at, &*it.message)).collect();
            match (expected, &found[..]) {
                (None, []) => {}
                (Some(expected), [(LOCATION, found)]) => {
                    assert!(found.contains(expected), "{found}")
                }
                _ => panic!("{found:?}, not {expected:?}"),
            }
            assert!(problems.iter().all(|problem| problem.hint.is_some()));
        }
    }
}
