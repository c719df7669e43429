//! An immutable table of certificates by name, which is only replaced as a whole.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::path::PathBuf;
use std::sync::Arc;

use rustls::sign::CertifiedKey;
use tracing::warn;

use crate::config::{CertificateFiles, Diagnostic, Located};
use crate::lifecycle::CertificateStatus;
use crate::tls::acceptor::normalize_sni;
use crate::tls::acme::date;
use crate::tls::x509::{self, CertInfo};

#[derive(Default)]
pub(super) struct CertTable {
    /// Certificates by DNS name, `*.name` or IP address, in lower case. An SNI never contains an address (RFC 6066 §3),
    /// but `tls.default` may.
    by_name: BTreeMap<Box<str>, Arc<CertifiedKey>>,
    /// The certificate for unknown names.
    pub(super) unknown: Option<Arc<CertifiedKey>>,
    /// The development CA's certificate for clients that send no name.
    pub(super) local: Option<Arc<CertifiedKey>>,
    /// The certificates behind `by_name` with their sources; the first of two with the same name is served.
    pub(super) certs: Vec<LoadedCert>,
}

/// A certificate and its source.
#[derive(Clone)]
pub(super) struct LoadedCert {
    pub(super) origin: CertSource,
    pub(super) names: Vec<Box<str>>,
    pub(super) key: Arc<CertifiedKey>,
    /// The error of the last reload of its files, after which this certificate is still served.
    pub(super) problems: Vec<Diagnostic>,
}

#[derive(Clone)]
pub(super) enum CertSource {
    File(Located<CertificateFiles>),
    /// A certificate of the development CA.
    Dev(PathBuf),
}

// === impl CertTable ===

impl CertTable {
    /// Creates a table with these certificates and without a default.
    pub(super) fn with(&self, held: Vec<LoadedCert>) -> CertTable {
        let mut table = CertTable {
            local: self.local.clone(),
            ..CertTable::default()
        };
        for held in held {
            table.insert(held);
        }
        table
    }

    /// Adds a certificate for those of its names that have none.
    pub(super) fn insert(&mut self, held: LoadedCert) {
        for name in &held.names {
            let entry = self.by_name.entry(name.clone());
            entry.or_insert_with(|| held.key.clone());
        }
        self.certs.push(held);
    }

    /// Sets the certificate of `name` as the default. Returns true if there is one.
    pub(super) fn serve_by_default(&mut self, name: &str) -> bool {
        self.unknown = self.find(&normalize_sni(name)).cloned();
        self.unknown.is_some()
    }

    /// Returns the certificate for `name`, in lower case. A wildcard matches exactly one label (RFC 9525 §6.3).
    pub(super) fn find(&self, name: &str) -> Option<&Arc<CertifiedKey>> {
        self.by_name.get(name).or_else(|| {
            let (label, parent) = name.split_once('.')?;
            if label.is_empty() || address(name).is_some() {
                return None;
            }
            self.by_name.get(format!("*.{parent}").as_str())
        })
    }

    /// Returns the certificate for clients that send no name.
    pub(super) fn without_sni(&self) -> Option<&Arc<CertifiedKey>> {
        self.unknown.as_ref().or(self.local.as_ref())
    }

    /// Returns the names, sorted; wildcards as `*.example.com`.
    pub(super) fn names(&self) -> impl ExactSizeIterator<Item = &str> {
        self.by_name.keys().map(|name| &**name)
    }

    /// Returns the expiry of each name's certificate, in seconds since 1970.
    pub(super) fn expiries(&self) -> BTreeMap<Box<str>, i64> {
        let expiries = self.by_name.iter();
        expiries
            .filter_map(|(name, key)| Some((name.clone(), facts(key)?.not_after)))
            .collect()
    }

    /// Logs the names of a pair for which an earlier pair is served.
    pub(super) fn warn_shadowed_names(&self, held: &LoadedCert) {
        for name in &held.names {
            let served = self.by_name.get(name);
            if served.is_some_and(|key| !Arc::ptr_eq(key, &held.key)) {
                warn!(%name, file = %held.from(), "an earlier certificate has this name and is served");
            }
        }
    }
}

// === impl LoadedCert ===

impl LoadedCert {
    pub(super) fn new(
        origin: CertSource,
        names: Vec<Box<str>>,
        key: Arc<CertifiedKey>,
    ) -> LoadedCert {
        LoadedCert {
            origin,
            names,
            key,
            problems: Vec::new(),
        }
    }

    /// Returns the expiry in seconds since 1970.
    pub(super) fn not_after(&self) -> Option<i64> {
        facts(&self.key).map(|facts| facts.not_after)
    }

    pub(super) fn status(&self) -> CertificateStatus {
        let facts = facts(&self.key);
        let names: Vec<String> = self.names.iter().map(|name| name.to_string()).collect();
        CertificateStatus {
            host: names.first().cloned().unwrap_or_default(),
            source: match self.origin {
                CertSource::File(_) => "file",
                CertSource::Dev(_) => "dev",
            },
            from: self.from(),
            names,
            issuer: facts.as_ref().map(|facts| facts.issuer.clone()),
            not_after: facts.as_ref().map(|facts| date(facts.not_after)),
            ordering: false,
            next_attempt: None,
            error: (!self.problems.is_empty()).then(|| in_words(&self.problems)),
        }
    }

    fn from(&self) -> String {
        let file = match &self.origin {
            CertSource::File(entry) => &entry.cert,
            CertSource::Dev(file) => file,
        };
        file.display().to_string()
    }
}

/// Joins the diagnostics and their hints into one text.
fn in_words(problems: &[Diagnostic]) -> String {
    let words = |problem: &Diagnostic| match &problem.hint {
        Some(hint) => format!("{} ({hint})", problem.message),
        None => problem.message.clone(),
    };
    problems.iter().map(words).collect::<Vec<_>>().join("; ")
}

fn facts(key: &CertifiedKey) -> Option<CertInfo> {
    key.cert.first().and_then(x509::cert_info)
}

pub(super) fn address(host: &str) -> Option<IpAddr> {
    host.trim_matches(['[', ']']).parse().ok()
}
