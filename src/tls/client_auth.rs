//! Client authentication: the hosts that request client certificates, and the CAs in `tls.client_ca` that these are
//! verified against.

use crate::{
    config::{Diagnostic, HostPattern, Located},
    net::{
        crypto::provider,
        pem::{self, FileError},
    },
    tls::x509,
};
use aws_lc_rs::digest::{self, SHA256};
use rustls::{
    RootCertStore,
    pki_types::TrustAnchor,
    server::{WebPkiClientVerifier, danger::ClientCertVerifier},
};
use std::{
    collections::{BTreeSet, HashSet},
    iter,
    net::IpAddr,
    path::PathBuf,
    sync::Arc,
};
use tracing::warn;

/// The hosts of all routes that use client certificates.
#[derive(Debug, Default)]
pub(crate) struct ClientAuthHosts {
    any: bool,
    /// True if at least one host is an IP address.
    address: bool,
    exact: HashSet<Box<str>>,
    /// The parents of wildcard patterns; every name below one of them is included.
    under: HashSet<Box<str>>,
}

// === impl ClientAuthHosts ===

impl ClientAuthHosts {
    pub(crate) fn is_empty(&self) -> bool {
        !self.any && !self.address && self.exact.is_empty() && self.under.is_empty()
    }

    /// Returns true if `name`, in lower case and without a trailing dot, is in the set. A client that connects to an IP
    /// address sends no name (RFC 6066 §3), so every address counts as a missing name.
    pub(crate) fn contains(&self, name: Option<&str>) -> bool {
        match name.filter(|name| name.parse::<IpAddr>().is_err()) {
            None => self.any || self.address,
            Some(name) => {
                let mut parents = iter::successors(parent(name), |name| parent(name));
                self.any || self.exact.contains(name) || parents.any(|it| self.under.contains(it))
            }
        }
    }
}

impl<'a> FromIterator<&'a HostPattern> for ClientAuthHosts {
    fn from_iter<I: IntoIterator<Item = &'a HostPattern>>(patterns: I) -> ClientAuthHosts {
        let mut hosts = ClientAuthHosts::default();
        for pattern in patterns {
            match pattern {
                HostPattern::Any => hosts.any = true,
                HostPattern::Under(suffix) => {
                    hosts.under.insert(suffix.clone());
                }
                HostPattern::Exact(host) if host.parse::<IpAddr>().is_ok() => hosts.address = true,
                HostPattern::Exact(host) => {
                    hosts.exact.insert(host.clone());
                }
            }
        }
        hosts
    }
}

/// The identity of a set of CAs. Two sets have the same identity if they verify the same certificates, whatever the
/// order in their files.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct CaSetId([u8; digest::SHA256_OUTPUT_LEN]);

// === impl CaSetId ===

impl CaSetId {
    /// Returns the identity of the CAs in a store.
    pub(crate) fn new(roots: &RootCertStore) -> CaSetId {
        let hashes: BTreeSet<_> = roots.roots.iter().map(anchor_hash).collect();
        CaSetId(hash(hashes.iter().map(<[u8; _]>::as_slice)))
    }
}

/// Hashes everything that webpki uses of a CA.
fn anchor_hash(anchor: &TrustAnchor<'_>) -> [u8; digest::SHA256_OUTPUT_LEN] {
    let parts = [
        Some(&anchor.subject),
        Some(&anchor.subject_public_key_info),
        anchor.name_constraints.as_ref(),
    ];
    hash(parts.into_iter().flatten().map(|part| part.as_ref()))
}

fn hash<'a>(parts: impl Iterator<Item = &'a [u8]>) -> [u8; digest::SHA256_OUTPUT_LEN] {
    let mut context = digest::Context::new(&SHA256);
    for part in parts {
        // The length separates the parts.
        context.update(&(part.len() as u64).to_be_bytes());
        context.update(part);
    }
    let hash = context.finish();
    hash.as_ref().try_into().expect("the length of SHA-256")
}

/// Returns the host without its first label.
fn parent(host: &str) -> Option<&str> {
    host.split_once('.').map(|(_, parent)| parent)
}

/// Returns a verifier that trusts client certificates signed by one of the CAs in `file`, and the identity of these
/// CAs. The verifier requests a certificate but does not require one: a client without one is refused later, by an HTTP
/// response that states the reason.
pub(crate) fn verifier(
    file: &Located<PathBuf>,
    diagnostics: &mut Vec<Diagnostic>,
) -> Option<(Arc<dyn ClientCertVerifier>, CaSetId)> {
    let verifier = roots(file).and_then(|roots| {
        let ca_set = CaSetId::new(&roots);
        WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider())
            .allow_unauthenticated()
            .build()
            .map(|verifier| (verifier, ca_set))
            .map_err(|error| FileError::new(format!("it cannot be used: {error}"), HINT))
    });
    verifier
        .map_err(|error| {
            diagnostics.push(Diagnostic {
                at: file.at,
                message: format!("tls.client_ca: {}", error.message),
                hint: Some(error.hint),
            });
        })
        .ok()
}

fn roots(file: &Located<PathBuf>) -> Result<RootCertStore, FileError> {
    let shown = file.display();
    let mut roots = RootCertStore::empty();
    for certificate in pem::load_certificates(file)? {
        // webpki does not check that a trust anchor is a CA certificate, so a client's own certificate would be
        // accepted.
        if !x509::is_authority(&certificate) || roots.add(certificate).is_err() {
            warn!(file = %shown, "tls.client_ca: skipped a certificate that is not a usable CA certificate");
        }
    }
    if roots.is_empty() {
        return Err(FileError::new(
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
    fn client_auth_hosts_match_as_routes_do() {
        for (patterns, included, excluded) in [
            (
                &["a.test"][..],
                &[Some("a.test")][..],
                &[Some("b.a.test"), Some("test"), Some("a.test2"), None][..],
            ),
            (
                &["*.a.test"],
                &[Some("b.a.test"), Some("c.b.a.test")],
                &[Some("a.test"), Some("ba.test"), None],
            ),
            (&["*"], &[Some("a.test"), Some("10.0.0.1"), None], &[]),
            // A client that connects to an address sends no name, so every address counts.
            (
                &["10.0.0.1"],
                &[Some("10.0.0.1"), Some("10.0.0.2"), Some("::1"), None],
                &[Some("a.test")],
            ),
            (&["[::1]"], &[Some("::1"), None], &[Some("a.test")]),
            (&[], &[], &[Some("a.test"), Some("::1"), None]),
        ] {
            let parsed: Vec<HostPattern> = patterns.iter().map(|it| it.parse().unwrap()).collect();
            let hosts: ClientAuthHosts = parsed.iter().collect();
            assert_eq!(hosts.is_empty(), patterns.is_empty());
            for name in included {
                assert!(hosts.contains(*name), "{patterns:?} {name:?}");
            }
            for name in excluded {
                assert!(!hosts.contains(*name), "{patterns:?} {name:?}");
            }
        }
    }

    #[test]
    fn ca_sets_are_compared_without_order_and_repetition() {
        let (one, other) = (Pki::new().ca_pem(), Pki::new().ca_pem());
        let pki = Pki::new();
        let ca_set = |cas: &[&str]| {
            let value = pki.write("clients.pem", cas.concat());
            let at = LOCATION;
            verifier(&Located { value, at }, &mut vec![]).unwrap().1
        };
        let both = ca_set(&[&one, &other]);
        assert_eq!(both, ca_set(&[&other, &one]));
        assert_eq!(both, ca_set(&[&one, &other, &one]));
        assert_eq!(ca_set(&[&one]), ca_set(&[&one]));
        assert_ne!(both, ca_set(&[&one]));
        assert_ne!(ca_set(&[&one]), ca_set(&[&other]));
    }

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
            let mut diagnostics = vec![];
            let value = match text {
                Some(text) => pki.write("clients.pem", text),
                None => pki.path("none.pem"),
            };
            let verifier = verifier(
                &Located {
                    value,
                    at: LOCATION,
                },
                &mut diagnostics,
            );
            assert_eq!(verifier.is_some(), expected.is_none(), "{diagnostics:?}");
            let found: Vec<_> = diagnostics.iter().map(|it| (it.at, &*it.message)).collect();
            match (expected, &found[..]) {
                (None, []) => {}
                (Some(expected), [(LOCATION, found)]) => {
                    assert!(found.contains(expected), "{found}")
                }
                _ => panic!("{found:?}, not {expected:?}"),
            }
            assert!(
                diagnostics
                    .iter()
                    .all(|diagnostic| diagnostic.hint.is_some())
            );
        }
    }
}
