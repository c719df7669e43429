//! Certificates of the development CA for names that are known only when a client asks for them: those that a route
//! for every host, or for all names below a suffix, admits.
//!
//! Signing happens within the TLS handshake: the key is shared, so that it costs one more signature. A client can only
//! cause that for names that a route admits, and at most [`MAX_LEAVES`] certificates are kept.

use crate::{config::HostPattern, tls::dev::DevCa};
use rustls::sign::CertifiedKey;
use std::{
    collections::HashMap,
    fmt,
    sync::{Arc, Mutex, PoisonError},
};
use tracing::debug;

/// The certificates issued on demand.
pub(crate) struct OnDemandCerts {
    ca: DevCa,
    hosts: Vec<HostPattern>,
    issued: Mutex<Leaves>,
}

/// The certificates by name, each with the number of its last use.
#[derive(Default)]
struct Leaves {
    by_name: HashMap<Box<str>, (Arc<CertifiedKey>, u64)>,
    uses: u64,
}

// === impl OnDemandCerts ===

impl OnDemandCerts {
    /// Creates the certificates for the names that `hosts` admit; `None` if each of those names is known.
    pub(crate) fn new<'a>(
        ca: &DevCa,
        hosts: impl Iterator<Item = &'a HostPattern>,
    ) -> Option<Self> {
        let is_open = |host: &&HostPattern| !matches!(host, HostPattern::Exact(_));
        let hosts: Vec<_> = hosts.filter(is_open).cloned().collect();
        (!hosts.is_empty()).then(|| OnDemandCerts {
            ca: ca.clone(),
            hosts,
            issued: Mutex::default(),
        })
    }

    /// Returns whether a route admits `name`, in lower case.
    pub(crate) fn admits(&self, name: &str) -> bool {
        self.hosts.iter().any(|host| match host {
            HostPattern::Any => true,
            HostPattern::Under(parent) => {
                let label = name.strip_suffix(&**parent);
                label.is_some_and(|label| label.len() > 1 && label.ends_with('.'))
            }
            HostPattern::Exact(exact) => **exact == *name,
        })
    }

    /// Returns the certificate for `name`, in lower case; `None` if no route admits it, or it is not allowed in a
    /// certificate.
    pub(crate) fn certificate(&self, name: &str) -> Option<Arc<CertifiedKey>> {
        if !self.admits(name) {
            return None;
        }
        if let Some(issued) = self.leaves(|leaves| leaves.take_up(name)) {
            return Some(issued);
        }
        let issued = self.ca.issue_with_shared_key(&[name.to_owned()]);
        let issued = issued.inspect_err(|error| {
            debug!(%name, %error, "the development CA cannot issue a certificate for this name");
        });
        let issued = Arc::new(issued.ok()?);
        self.leaves(|leaves| leaves.insert(name, issued.clone()));
        Some(issued)
    }

    // No panic can occur while the leaves are only partly updated.
    fn leaves<T>(&self, act: impl FnOnce(&mut Leaves) -> T) -> T {
        act(&mut self.issued.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

impl fmt::Debug for OnDemandCerts {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(&self.hosts).finish()
    }
}

// === impl Leaves ===

impl Leaves {
    /// Returns the certificate for `name` and counts its use.
    fn take_up(&mut self, name: &str) -> Option<Arc<CertifiedKey>> {
        let (certificate, last_use) = self.by_name.get_mut(name)?;
        self.uses += 1;
        *last_use = self.uses;
        Some(certificate.clone())
    }

    /// Adds a certificate; if there are too many, the one that was not used for the longest time is removed.
    fn insert(&mut self, name: &str, certificate: Arc<CertifiedKey>) {
        if self.by_name.len() >= MAX_LEAVES {
            let oldest = self
                .by_name
                .iter()
                .min_by_key(|(_, (_, last_use))| *last_use);
            if let Some(oldest) = oldest.map(|(name, _)| name.clone()) {
                self.by_name.remove(&oldest);
            }
        }
        self.uses += 1;
        self.by_name.insert(name.into(), (certificate, self.uses));
    }
}

/// The maximum number of certificates that are kept.
pub(crate) const MAX_LEAVES: usize = 100;

#[cfg(test)]
mod tests {
    use super::*;

    fn issuer(hosts: &[HostPattern]) -> (tempfile::TempDir, Option<OnDemandCerts>) {
        let data = tempfile::tempdir().unwrap();
        let ca = DevCa::open(data.path()).unwrap();
        let certs = OnDemandCerts::new(&ca, hosts.iter());
        (data, certs)
    }

    #[test]
    fn only_names_that_a_route_admits_are_signed() {
        let hosts = [
            HostPattern::Under("a.test".into()),
            HostPattern::Exact("b.test".into()),
        ];
        let (_data, certs) = issuer(&hosts);
        let certs = certs.unwrap();
        for (name, expected) in [
            ("x.a.test", true),
            ("x.y.a.test", true),
            ("a.test", false),
            (".a.test", false),
            ("xa.test", false),
            ("c.test", false),
        ] {
            assert_eq!(certs.certificate(name).is_some(), expected, "{name}");
        }
        assert!(issuer(&hosts[1..]).1.is_none());
    }

    #[test]
    fn at_most_100_certificates_are_kept_and_the_unused_ones_are_removed_first() {
        let (_data, certs) = issuer(&[HostPattern::Any]);
        let certs = certs.unwrap();
        let first = certs.certificate("used.test").unwrap();
        for n in 0..MAX_LEAVES + 20 {
            assert!(certs.certificate(&format!("n{n}.test")).is_some());
            assert!(Arc::ptr_eq(
                &first,
                &certs.certificate("used.test").unwrap()
            ));
            assert!(certs.leaves(|leaves| leaves.by_name.len()) <= MAX_LEAVES);
        }
        let is_kept = |name: &str| certs.leaves(|leaves| leaves.by_name.contains_key(name));
        assert!(!is_kept("n0.test") && is_kept("n50.test"));
    }
}
