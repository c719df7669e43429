//! Whether clients can verify a certificate chain as it is served: the leaf's usages, and the path from it to a CA.
//!
//! The dates of the leaf itself are those of `x509.rs`. What only the client knows, its trust roots, is not checked:
//! a chain that ends below any root of this machine is accepted.

use crate::{
    net::{crypto::provider, pem},
    tls::x509::{Validity, date, validity},
};
use rustls::pki_types::{CertificateDer, TrustAnchor, UnixTime};
use std::{fmt, path::Path};
use webpki::{EndEntityCert, Error, KeyUsage, anchor_from_trusted_cert};
use x509_parser::{certificate::X509Certificate, parse_x509_certificate};

/// A reason for which clients may reject a chain.
#[derive(Debug, Clone, PartialEq, Eq)]
struct ChainProblem {
    message: String,
    hint: &'static str,
}

/// Returns the reasons of [`problems`] as one text.
pub(crate) fn warning(chain: &[CertificateDer<'_>], now: UnixTime) -> Option<String> {
    let problems = problems(chain, now);
    let texts: Vec<String> = problems.iter().map(ToString::to_string).collect();
    (!texts.is_empty()).then(|| texts.join("; "))
}

/// Returns every reason for which clients may reject the chain at `now`, except for the dates of the leaf. May read the
/// trust roots of this machine.
fn problems(chain: &[CertificateDer<'_>], now: UnixTime) -> Vec<ChainProblem> {
    let Some((leaf, issuers)) = chain.split_first() else {
        return Vec::new();
    };
    let mut problems = Vec::new();
    if let Ok((_, parsed)) = parse_x509_certificate(leaf) {
        if must_staple(&parsed) {
            problems.push(ChainProblem {
                message: "it is must-staple (RFC 7633), and Lockgate sends no OCSP response".into(),
                hint: "have it issued without the TLS feature extension",
            });
        }
        if lacks_server_auth(&parsed) {
            problems.push(ChainProblem {
                message: "its extendedKeyUsage has no serverAuth".into(),
                hint: "have it issued for TLS servers",
            });
        }
    }
    problems.extend(path_problem(leaf, issuers, now));
    problems
}

fn must_staple(leaf: &X509Certificate<'_>) -> bool {
    leaf.extensions().iter().any(|extension| {
        extension.oid.to_id_string() == TLS_FEATURE
            && extension
                .value
                .windows(STATUS_REQUEST.len())
                .any(|part| part == STATUS_REQUEST)
    })
}

/// Returns whether the certificate has usages, and none for TLS servers (RFC 5280 §4.2.1.12).
fn lacks_server_auth(leaf: &X509Certificate<'_>) -> bool {
    match leaf.extended_key_usage() {
        Ok(Some(usage)) => !usage.value.server_auth && !usage.value.any,
        _ => false,
    }
}

/// Returns the first problem of the path that a client builds from the leaf with the other certificates of the file.
fn path_problem(
    leaf: &CertificateDer<'_>,
    issuers: &[CertificateDer<'_>],
    now: UnixTime,
) -> Option<ChainProblem> {
    let cert = EndEntityCert::try_from(leaf).ok()?;
    if cert.issuer() == cert.subject() {
        return None;
    }
    // A client of the public CAs needs none of the rest, which may be a cross-signed certificate that has expired.
    if verify(&cert, issuers, webpki_roots::TLS_SERVER_ROOTS, now).is_ok() {
        return None;
    }
    let path = path(&cert, issuers, now);
    let Some(top) = path.last() else {
        let issuer = issuer_name(leaf);
        if is_root(cert.issuer()) {
            return None;
        }
        return Some(ChainProblem {
            message: match issuers.len() {
                0 => format!(
                    "it is alone in its file, without the certificate of its issuer {issuer:?}, and no root of this machine has that name"
                ),
                _ => format!("no other certificate in its file is that of its issuer {issuer:?}"),
            },
            hint: "append the intermediate certificates that the CA delivered, or, if the issuer is the root itself, that root",
        });
    };
    let problem = path.iter().find_map(|issuer| {
        let (_, parsed) = parse_x509_certificate(issuer).ok()?;
        let (name, dates) = (parsed.subject(), parsed.validity());
        match validity(issuer, now) {
            Ok(Validity::Expired) => Some(ChainProblem {
                message: format!(
                    "the certificate of its issuer {name} expired on {}",
                    date(dates.not_after.timestamp())
                ),
                hint: "replace it by the CA's present intermediate certificate",
            }),
            Ok(Validity::NotYet) => Some(ChainProblem {
                message: format!(
                    "the certificate of its issuer {name} is not valid before {}",
                    date(dates.not_before.timestamp())
                ),
                hint: "is the clock right?",
            }),
            Ok(Validity::Leaf) => Some(ChainProblem {
                message: format!("the certificate of its issuer {name} is not that of a CA"),
                hint: "append the intermediate certificates that the CA delivered",
            }),
            _ => None,
        }
    });
    if problem.is_some() {
        return problem;
    }
    let anchor = anchor_from_trusted_cert(top).ok()?;
    match verify(&cert, issuers, &[anchor], now) {
        // The name is right, and the key is another one: for example the CA's previous certificate.
        Err(Error::UnknownIssuer | Error::InvalidSignatureForPublicKey) => Some(ChainProblem {
            message: format!(
                "it was not signed by the certificate of {:?} in its file",
                issuer_name(leaf)
            ),
            hint: "append the intermediate certificates that the CA delivered with it",
        }),
        _ => None,
    }
}

/// Returns the certificates that lead from the leaf upwards, by their names. Of two with the same name, the one that
/// is valid now is taken.
fn path<'a>(
    leaf: &EndEntityCert<'_>,
    issuers: &'a [CertificateDer<'a>],
    now: UnixTime,
) -> Vec<&'a CertificateDer<'a>> {
    let mut path: Vec<&CertificateDer<'_>> = Vec::new();
    let mut name = leaf.issuer().to_vec();
    loop {
        let mut candidates: Vec<_> = issuers
            .iter()
            .filter(|der| !path.contains(der))
            .filter_map(|der| Some((der, EndEntityCert::try_from(der).ok()?)))
            .filter(|(_, cert)| cert.subject() == name)
            .collect();
        candidates.sort_by_key(|(der, _)| validity(der, now) != Ok(Validity::Authority));
        let Some((der, cert)) = candidates.into_iter().next() else {
            return path;
        };
        path.push(der);
        if cert.issuer() == cert.subject() {
            return path;
        }
        name = cert.issuer().to_vec();
    }
}

fn verify(
    leaf: &EndEntityCert<'_>,
    intermediates: &[CertificateDer<'_>],
    roots: &[TrustAnchor<'_>],
    now: UnixTime,
) -> Result<(), Error> {
    let algorithms = provider().signature_verification_algorithms.all;
    let usage = KeyUsage::server_auth();
    leaf.verify_for_usage(algorithms, roots, intermediates, now, usage, None, None)
        .map(|_| ())
}

/// Returns whether a root of the public CAs or of this machine has this name.
fn is_root(name: &[u8]) -> bool {
    let public = webpki_roots::TLS_SERVER_ROOTS.iter();
    public.into_iter().any(|root| *root.subject == *name)
        || SYSTEM_ROOTS.iter().any(|file| {
            let roots = pem::read_certificates(Path::new(file)).unwrap_or_default();
            roots
                .iter()
                .any(|root| anchor_from_trusted_cert(root).is_ok_and(|root| *root.subject == *name))
        })
}

fn issuer_name(certificate: &CertificateDer<'_>) -> String {
    let parsed = parse_x509_certificate(certificate);
    parsed.map_or_else(|_| String::new(), |(_, parsed)| parsed.issuer().to_string())
}

impl fmt::Display for ChainProblem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}; {}", self.message, self.hint)
    }
}

/// The TLS feature extension (RFC 7633 §4.1).
const TLS_FEATURE: &str = "1.3.6.1.5.5.7.1.24";

/// The feature `status_request`, as an INTEGER.
const STATUS_REQUEST: [u8; 3] = [2, 1, 5];

/// The roots of this machine, in Debian and in Fedora. An operator's own root is there if it was installed.
const SYSTEM_ROOTS: [&str; 2] = [
    "/etc/ssl/certs/ca-certificates.crt",
    "/etc/pki/tls/certs/ca-bundle.crt",
];
