//! Selects the certificate for a server name.
//!
//! The order is: the exact name; a wildcard for its first label; `tls.default`; an alert. For each of the first two,
//! files and the development CA precede certificates issued by ACME. Without a server name: `tls.default`, the
//! development CA's certificate for localhost, an alert. If two files name the same host, the first one in the
//! configuration wins, with a warning.
//!
//! `table` is an immutable snapshot, which `reread` replaces when files change. `gaps` finds hosts that have no
//! certificate, and `develop` issues one for them with the development CA.

mod develop;
mod gaps;
mod reread;
mod table;

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::path::PathBuf;
use std::sync::{Arc, Mutex};

use arc_swap::ArcSwap;
use rustls::server::{ClientHello, ResolvesServerCert};
use rustls::sign::CertifiedKey;

use self::develop::issue_dev_certs;
use self::gaps::{Coverage, NO_ACME, NO_CERTIFICATE};
pub use self::reread::CertReload;
use self::table::{CertSource, CertTable, LoadedCert};
use super::acceptor::normalize_sni;
use super::{DevCa, IssuedCerts, files};
use crate::config::{Diagnostic, HostPattern, Located, Tls};
use crate::lifecycle::CertificateStatus;

/// The certificates of a gateway, by name.
pub struct Certificates {
    table: ArcSwap<CertTable>,
    /// The value of `tls.default`.
    default: Option<Box<str>>,
    /// Lower-case names that are not in the table and receive their certificate by ACME.
    acme_names: BTreeSet<Box<str>>,
    issued: Arc<IssuedCerts>,
    /// Serialises reloads: files are read between loading one table and storing the next.
    reload_lock: Mutex<()>,
}

/// The sources of certificates other than files.
#[derive(Debug, Default)]
pub struct CertIssuers<'a> {
    /// The development CA, if `tls.dev_ca` is set; it signs for hosts without a certificate.
    pub dev: Option<&'a DevCa>,
    /// The certificates issued by ACME.
    pub issued: Arc<IssuedCerts>,
}

// === impl Certificates ===

impl Certificates {
    /// Reads all files and reports every error together. `hosts` are those that a TLS listener must serve. A host
    /// without a certificate receives it by ACME if it is in `acme`, otherwise from the development CA if there is one;
    /// otherwise it is an error. `acme` is `None` if ACME is not configured.
    pub fn build(
        tls: &Tls,
        hosts: &[Located<HostPattern>],
        acme: Option<&BTreeSet<Box<str>>>,
        issuers: &CertIssuers<'_>,
        problems: &mut Vec<Diagnostic>,
    ) -> Certificates {
        let mut table = CertTable::default();
        let before = problems.len();
        for entry in &tls.certificates {
            if let Some(loaded) = files::read(entry, problems) {
                files::warn_about_cert(entry, &loaded);
                let cert =
                    LoadedCert::new(CertSource::File(entry.clone()), loaded.names, loaded.key);
                table.insert(cert.clone());
                table.warn_shadowed_names(&cert);
            }
        }
        // The names in an unreadable file are unknown, so a missing name cannot be reported.
        let all_read = problems.len() == before;

        let requested = acme.into_iter().flatten();
        let acme_names: BTreeSet<Box<str>> = requested
            .filter(|name| table.find(name).is_none())
            .cloned()
            .collect();
        if let Some(ca) = issuers.dev {
            issue_dev_certs(&mut table, ca, hosts, &acme_names, problems);
        }
        if let Some(name) = &tls.default
            && !table.set_default(name)
            && all_read
        {
            let coverage = Coverage {
                table: &table,
                acme_names: &acme_names,
            };
            problems.push(Diagnostic {
                at: name.at,
                message: format!("no certificate has the name {:?}", name.value),
                hint: Some(coverage.known_names(name)),
            });
        }
        if all_read && issuers.dev.is_none() {
            let hint = match acme {
                Some(_) => NO_ACME,
                None => NO_CERTIFICATE,
            };
            let coverage = Coverage {
                table: &table,
                acme_names: &acme_names,
            };
            problems.extend(
                hosts
                    .iter()
                    .filter_map(|host| coverage.unserved(host, hint)),
            );
        }
        Certificates {
            table: ArcSwap::from_pointee(table),
            default: tls.default.as_ref().map(|name| normalize_sni(name)),
            acme_names,
            issued: issuers.issued.clone(),
            reload_lock: Mutex::default(),
        }
    }

    /// Returns the names that receive their certificate by ACME, sorted.
    pub fn acme_names(&self) -> &BTreeSet<Box<str>> {
        &self.acme_names
    }

    /// Returns the status of each certificate from files and the development CA.
    pub fn status(&self) -> Vec<CertificateStatus> {
        self.table
            .load()
            .certs
            .iter()
            .map(LoadedCert::status)
            .collect()
    }

    /// Returns every name served from files and the development CA, with its expiry in seconds since 1970.
    pub fn expiries(&self) -> BTreeMap<Box<str>, i64> {
        self.table.load().expiries()
    }

    /// Returns the files of `tls.certificates`.
    pub fn files(&self) -> Vec<PathBuf> {
        let table = self.table.load();
        let pair = |cert: &LoadedCert| match &cert.source {
            CertSource::File(entry) => vec![entry.cert.clone(), entry.key.clone()],
            CertSource::Dev(_) => Vec::new(),
        };
        table.certs.iter().flat_map(pair).collect()
    }

    #[cfg(test)]
    pub(super) fn for_name(&self, name: &str) -> Arc<CertifiedKey> {
        let table = self.table.load();
        table.find(name).cloned().expect("the table has the name")
    }

    /// Returns the ACME certificate for `name`, if this gateway has the name. ACME may manage others too.
    fn issued_cert(&self, name: &str) -> Option<Arc<CertifiedKey>> {
        if self.acme_names.contains(name) {
            return self.issued.certificate(name);
        }
        let (label, parent) = name.split_once('.')?;
        let wildcard = format!("*.{parent}");
        let is_served = !label.is_empty() && self.acme_names.contains(wildcard.as_str());
        is_served.then(|| self.issued.certificate(&wildcard))?
    }
}

impl ResolvesServerCert for Certificates {
    fn resolve(&self, hello: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        let table = self.table.load();
        match hello.server_name() {
            Some(name) => {
                let name = normalize_sni(name);
                let certificate = table.find(&name).cloned();
                certificate
                    .or_else(|| self.issued_cert(&name))
                    .or_else(|| table.default_cert.clone())
            }
            None => table.without_sni().cloned(),
        }
    }
}

impl fmt::Debug for Certificates {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_set().entries(self.table.load().names()).finish()
    }
}

#[cfg(test)]
mod tests;
