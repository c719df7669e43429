//! An immutable table of certificates by name, which is only replaced as a whole.

use crate::{
    config::{CertificateFiles, Diagnostic, Located},
    lifecycle::command::CertificateStatus,
    tls::{
        certs::set::CertSet,
        chain,
        x509::{self, CertInfo, date, normalize_sni},
    },
};
use rustls::{SignatureScheme, pki_types::UnixTime, sign::CertifiedKey};
use std::{collections::BTreeMap, net::IpAddr, path::PathBuf, sync::Arc};
use tracing::warn;

#[derive(Default)]
pub(crate) struct CertTable {
    /// Certificates by DNS name, `*.name` or IP address, in lower case. An SNI never contains an address (RFC 6066 §3),
    /// but `tls.default` may.
    by_name: BTreeMap<Box<str>, CertSet>,
    /// The certificates of `tls.default`, for unknown names.
    pub(crate) default_cert: Option<CertSet>,
    /// The development CA's certificate for clients that send no name.
    pub(crate) local_cert: Option<CertSet>,
    /// The certificates behind `by_name` with their sources; the first of two with the same name and kind of key is
    /// served.
    pub(crate) certs: Vec<LoadedCert>,
}

/// A certificate and its source.
#[derive(Clone)]
pub(crate) struct LoadedCert {
    pub(crate) source: CertSource,
    pub(crate) names: Vec<Box<str>>,
    pub(crate) key: Arc<CertifiedKey>,
    /// The errors of the last reload of its files, after which this certificate is still served.
    pub(crate) diagnostics: Vec<Diagnostic>,
}

#[derive(Clone)]
pub(crate) enum CertSource {
    File(Located<CertificateFiles>),
    /// A certificate of the development CA.
    Dev(PathBuf),
}

// === impl CertTable ===

impl CertTable {
    /// Creates a table with `certs`, the same development certificate for clients without a name, and no default.
    pub(crate) fn with_certs(&self, certs: Vec<LoadedCert>) -> CertTable {
        let mut table = CertTable {
            local_cert: self.local_cert.clone(),
            ..CertTable::default()
        };
        for cert in certs {
            table.insert(cert);
        }
        table
    }

    /// Adds a certificate for those of its names that have none with such a key.
    pub(crate) fn insert(&mut self, cert: LoadedCert) {
        for name in &cert.names {
            self.by_name.entry(name.clone()).or_default().add(&cert.key);
        }
        self.certs.push(cert);
    }

    /// Sets the certificate of `name` as the default. Returns true if there is one.
    pub(crate) fn set_default(&mut self, name: &str) -> bool {
        self.default_cert = self.find(&normalize_sni(name)).cloned();
        self.default_cert.is_some()
    }

    /// Returns the certificates for `name`, in lower case: those of the exact name, otherwise those of a wildcard.
    pub(crate) fn find(&self, name: &str) -> Option<&CertSet> {
        self.by_name.get(name).or_else(|| self.find_wildcard(name))
    }

    /// Returns the certificate for `name` that a client with these signature schemes can verify. Without one it returns
    /// the first for the name, so that the TLS handshake fails with the alert for it.
    pub(crate) fn choose(
        &self,
        name: &str,
        offered: &[SignatureScheme],
    ) -> Option<Arc<CertifiedKey>> {
        let exact = self.by_name.get(name);
        if let Some(key) = exact.and_then(|set| set.choose(offered)) {
            return Some(key);
        }
        let wildcard = self.find_wildcard(name);
        wildcard
            .and_then(|set| set.choose(offered))
            .or_else(|| exact.or(wildcard)?.first().cloned())
    }

    /// A wildcard matches exactly one label (RFC 9525 §6.3).
    fn find_wildcard(&self, name: &str) -> Option<&CertSet> {
        let (label, parent) = name.split_once('.')?;
        if label.is_empty() || address(name).is_some() {
            return None;
        }
        self.by_name.get(format!("*.{parent}").as_str())
    }

    /// Returns the certificates for clients that send no name.
    pub(crate) fn without_sni(&self) -> Option<&CertSet> {
        self.default_cert.as_ref().or(self.local_cert.as_ref())
    }

    /// Returns the names, sorted; wildcards as `*.example.com`.
    pub(crate) fn names(&self) -> impl ExactSizeIterator<Item = &str> {
        self.by_name.keys().map(|name| &**name)
    }

    /// Returns the expiry of each name's certificate, in seconds since 1970; of several, that of the first to expire.
    pub(crate) fn expiries(&self) -> BTreeMap<Box<str>, i64> {
        let expiries = self.by_name.iter();
        expiries
            .filter_map(|(name, set)| Some((name.clone(), set.not_after()?)))
            .collect()
    }

    /// Logs the names of a pair for which an earlier pair is served.
    pub(crate) fn warn_shadowed_names(&self, cert: &LoadedCert) {
        for name in &cert.names {
            let served = self.by_name.get(name);
            if served.is_some_and(|set| !set.keys().any(|key| Arc::ptr_eq(key, &cert.key))) {
                warn!(%name, file = %cert.from(), "an earlier certificate has this name and kind of key, and is served");
            }
        }
    }
}

// === impl LoadedCert ===

impl LoadedCert {
    /// Creates the entry of a certificate without errors.
    pub(crate) fn new(
        source: CertSource,
        names: Vec<Box<str>>,
        key: Arc<CertifiedKey>,
    ) -> LoadedCert {
        LoadedCert {
            source,
            names,
            key,
            diagnostics: Vec::new(),
        }
    }

    /// Returns the expiry in seconds since 1970.
    pub(crate) fn not_after(&self) -> Option<i64> {
        cert_info(&self.key).map(|info| info.not_after)
    }

    /// Returns the status as `lockgate cert list` displays it.
    pub(crate) fn status(&self) -> CertificateStatus {
        let info = cert_info(&self.key);
        let names: Vec<String> = self.names.iter().map(|name| name.to_string()).collect();
        CertificateStatus {
            host: names.first().cloned().unwrap_or_default(),
            source: match self.source {
                CertSource::File(_) => "file",
                CertSource::Dev(_) => "dev",
            },
            from: self.from(),
            names,
            issuer: info.as_ref().map(|info| info.issuer.clone()),
            not_before: info.as_ref().map(|info| date(info.not_before)),
            not_after: info.as_ref().map(|info| date(info.not_after)),
            ordering: false,
            next_attempt: None,
            error: (!self.diagnostics.is_empty()).then(|| join_diagnostics(&self.diagnostics)),
            warning: self.chain_warning(UnixTime::now()),
        }
    }

    /// Returns why clients may reject the chain at `now`, apart from the dates of the certificate itself. The
    /// development CA's own are verified by clients that know it.
    pub(crate) fn chain_warning(&self, now: UnixTime) -> Option<String> {
        match self.source {
            CertSource::File(_) => chain::warning(&self.key.cert, now),
            CertSource::Dev(_) => None,
        }
    }

    /// Returns one diagnostic with every reason for which clients may reject the certificate at `now`.
    pub(crate) fn warning(&self, now: UnixTime) -> Option<Diagnostic> {
        let date = self.date_problem(now);
        let problems: Vec<String> = date.into_iter().chain(self.chain_warning(now)).collect();
        if problems.is_empty() {
            return None;
        }
        let at = match &self.source {
            CertSource::File(entry) => entry.cert.at.or(entry.at),
            CertSource::Dev(_) => None,
        };
        Some(Diagnostic {
            at,
            message: format!("certificate {}: {}", self.from(), problems.join("; ")),
            hint: None,
        })
    }

    /// Returns why the certificate is not valid at `now` according to its dates.
    pub(crate) fn date_problem(&self, now: UnixTime) -> Option<String> {
        x509::date_problem(self.key.cert.first()?, now)
    }

    pub(crate) fn from(&self) -> String {
        let file = match &self.source {
            CertSource::File(entry) => &entry.cert.value,
            CertSource::Dev(file) => file,
        };
        file.display().to_string()
    }
}

/// Joins the diagnostics and their hints into one text.
pub(crate) fn join_diagnostics(diagnostics: &[Diagnostic]) -> String {
    let text = |diagnostic: &Diagnostic| match &diagnostic.hint {
        Some(hint) => format!("{} ({hint})", diagnostic.message),
        None => diagnostic.message.clone(),
    };
    diagnostics.iter().map(text).collect::<Vec<_>>().join("; ")
}

fn cert_info(key: &CertifiedKey) -> Option<CertInfo> {
    key.cert.first().and_then(x509::cert_info)
}

/// Parses a host that is an IP address, with or without brackets.
pub(crate) fn address(host: &str) -> Option<IpAddr> {
    host.trim_matches(['[', ']']).parse().ok()
}
