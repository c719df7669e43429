//! Selects the certificate for a server name.
//!
//! The order is: the exact name; a wildcard for its first label; `tls.default`; an alert. For each of the first two,
//! files and the development CA precede certificates issued by ACME. Then the development CA signs the name if a route
//! admits it. Without a server name: `tls.default`, the
//! development CA's certificate for localhost, an alert. If several files name the same host, `set` chooses between
//! keys of different kinds by what the client supports; of the same kind, the first one in the configuration wins,
//! with a warning.
//!
//! `table` is an immutable snapshot, which `reload` replaces when files change. Hosts that have no certificate are
//! a diagnostic, or receive one from the development CA.

pub(crate) mod reload;
pub(crate) mod set;
pub(crate) mod table;

use crate::{
    config::{Diagnostic, HostPattern, Located, Location, Tls, Watch},
    fs::deadline,
    lifecycle::command::CertificateStatus,
    net::local_addrs::local_addrs,
    observe::{logging::ErrorChain, metrics::Metrics},
    tls::{
        cert_files,
        certs::{
            reload::{CertReload, log_reload, reload_table},
            set::CertSet,
            table::{CertSource, CertTable, LoadedCert, address, join_diagnostics},
        },
        dev::{DevCa, on_demand::OnDemandCerts},
        issued::IssuedCerts,
        x509::normalize_sni,
    },
};
use arc_swap::ArcSwap;
use rustls::{
    pki_types::UnixTime,
    server::{ClientHello, ResolvesServerCert},
    sign::CertifiedKey,
};
use std::{
    collections::{BTreeMap, BTreeSet},
    fmt,
    net::IpAddr,
    path::PathBuf,
    sync::{Arc, Mutex, PoisonError},
};
use tracing::warn;

/// The certificates of a gateway, by name.
pub struct Certificates {
    table: ArcSwap<CertTable>,
    /// The value of `tls.default`.
    default: Option<Box<str>>,
    /// Lower-case names that are not in the table and receive their certificate by ACME.
    acme_names: BTreeSet<Box<str>>,
    issued: Arc<IssuedCerts>,
    /// The certificates of the development CA for names that only the client knows.
    on_demand: Option<OnDemandCerts>,
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
        diagnostics: &mut Vec<Diagnostic>,
    ) -> Certificates {
        let mut table = CertTable::default();
        let before = diagnostics.len();
        for entry in &tls.certificates {
            if let Some(loaded) = cert_files::read(entry, diagnostics) {
                cert_files::warn_about_cert(entry, &loaded);
                let cert =
                    LoadedCert::new(CertSource::File(entry.clone()), loaded.names, loaded.key);
                table.insert(cert.clone());
                table.warn_shadowed_names(&cert);
            }
        }
        // The names in an unreadable file are unknown, so a missing name cannot be reported.
        let all_read = diagnostics.len() == before;

        let requested = acme.into_iter().flatten();
        let acme_names: BTreeSet<Box<str>> = requested
            .filter(|name| table.find(name).is_none())
            .cloned()
            .collect();
        if let Some(ca) = issuers.dev {
            issue_dev_certs(&mut table, ca, hosts, &acme_names, diagnostics);
        }
        if let Some(name) = &tls.default
            && !table.set_default(name)
            && all_read
        {
            let coverage = Coverage {
                table: &table,
                acme_names: &acme_names,
            };
            diagnostics.push(Diagnostic {
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
            diagnostics.extend(
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
            on_demand: issuers
                .dev
                .and_then(|ca| OnDemandCerts::new(ca, hosts.iter().map(|host| &host.value))),
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

    /// Returns the pairs whose files are unusable now, so that the previous certificate is served: the file, and the
    /// errors with their hints.
    pub fn unusable_files(&self) -> Vec<(String, String)> {
        let table = self.table.load();
        let failed = table
            .certs
            .iter()
            .filter(|cert| !cert.diagnostics.is_empty());
        failed
            .map(|cert| (cert.from(), join_diagnostics(&cert.diagnostics)))
            .collect()
    }

    /// Returns a warning for each certificate that clients may reject now: because of its dates, its usages, or the
    /// chain in its file.
    pub fn warnings(&self) -> Vec<Diagnostic> {
        let table = self.table.load();
        let warning = |cert: &LoadedCert| cert.warning(UnixTime::now());
        table.certs.iter().filter_map(warning).collect()
    }

    /// Returns every name served from files and the development CA, with its expiry in seconds since 1970.
    pub fn expiries(&self) -> BTreeMap<Box<str>, i64> {
        self.table.load().expiries()
    }

    /// Returns the files of `tls.certificates`.
    pub fn files(&self) -> Vec<PathBuf> {
        let table = self.table.load();
        let pair = |cert: &LoadedCert| match &cert.source {
            CertSource::File(entry) => vec![entry.cert.value.clone(), entry.key.value.clone()],
            CertSource::Dev(_) => Vec::new(),
        };
        table.certs.iter().flat_map(pair).collect()
    }

    /// Reloads the pairs of `tls.certificates` that have a file in `changed`, and serves the usable ones. Returns each
    /// change once; an error that was returned is not returned again until it changes.
    pub fn reload(&self, changed: &BTreeSet<PathBuf>) -> Vec<CertReload> {
        let _guard = self
            .reload_lock
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        let before = self.table.load_full();
        let default = self.default.as_deref();
        match reload_table(&before, changed, default, &self.acme_names) {
            Some((table, changes)) => {
                self.table.store(Arc::new(table));
                changes
            }
            None => Vec::new(),
        }
    }

    /// Returns whether clients that send this server name are presented a certificate of the development CA.
    pub(crate) fn is_from_dev_ca(&self, sni: Option<&str>) -> bool {
        let table = self.table.load();
        let is_on_demand = |name: &str| {
            let certs = self.on_demand.as_ref();
            table.find(name).is_none() && certs.is_some_and(|certs| certs.admits(name))
        };
        if sni.is_some_and(is_on_demand) {
            return true;
        }
        let presented = match sni {
            Some(name) => table.find(name).or(table.default_cert.as_ref()),
            None => table.without_sni(),
        };
        let is_dev = |key: &Arc<CertifiedKey>| {
            let mut certs = table.certs.iter();
            certs.any(|cert| {
                matches!(cert.source, CertSource::Dev(_)) && Arc::ptr_eq(&cert.key, key)
            })
        };
        presented.is_some_and(|presented| presented.keys().any(is_dev))
    }

    #[cfg(test)]
    pub(crate) fn for_name(&self, name: &str) -> Arc<CertifiedKey> {
        let table = self.table.load();
        let set = table.find(name).expect("the table has the name");
        set.first().expect("a set has a certificate").clone()
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

    /// Returns a certificate of the development CA for a name that has no other and will not get one by ACME.
    fn signed_on_demand(&self, name: &str) -> Option<Arc<CertifiedKey>> {
        let certs = self.on_demand.as_ref()?;
        (!self.acme_names.contains(name)).then(|| certs.certificate(name))?
    }
}

impl ResolvesServerCert for Certificates {
    fn resolve(&self, hello: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        let table = self.table.load();
        let offered = hello.signature_schemes();
        match hello.server_name() {
            Some(name) => {
                let name = normalize_sni(name);
                let certificate = table.choose(&name, offered);
                certificate
                    .or_else(|| self.issued_cert(&name))
                    .or_else(|| self.signed_on_demand(&name))
                    .or_else(|| table.default_cert.as_ref()?.choose_or_first(offered))
            }
            None => table.without_sni()?.choose_or_first(offered),
        }
    }
}

impl fmt::Debug for Certificates {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_set().entries(self.table.load().names()).finish()
    }
}

/// Reloads `certificates` whenever another program has changed the content of their files, and publishes the expiry of
/// each name in `metrics`. Returns only if there are no files.
pub(crate) async fn watch_files(certificates: Arc<Certificates>, metrics: Arc<Metrics>) {
    let mut published = BTreeSet::new();
    publish_expiries(&certificates, &metrics, &mut published);
    let files = certificates.files();
    if files.is_empty() {
        return;
    }
    let Some(mut watch) = Watch::open(files.clone()).await else {
        return;
    };
    // All files are reloaded once at first, because they may have changed since they were read.
    let mut changed: BTreeSet<PathBuf> = files.iter().cloned().collect();
    loop {
        let reloaded = certificates.clone();
        let read = deadline::unbounded(move || reloaded.reload(&changed));
        log_reload(read.await);
        publish_expiries(&certificates, &metrics, &mut published);
        let indices = watch.changed().await;
        changed = indices.into_iter().map(|at| files[at].clone()).collect();
    }
}

fn publish_expiries(
    certificates: &Certificates,
    metrics: &Metrics,
    published: &mut BTreeSet<Box<str>>,
) {
    let expiries = certificates.expiries();
    for name in published.iter() {
        // The expiry of ACME certificates is published by `acme`.
        if !expiries.contains_key(name) && !certificates.acme_names().contains(name) {
            metrics.remove_certificate(name);
        }
    }
    for (name, not_after) in &expiries {
        metrics.set_certificate_expiry(name, *not_after);
    }
    *published = expiries.into_keys().collect();
}

/// Issues certificates of the development CA for all hosts that have none from files or by ACME.
fn issue_dev_certs(
    table: &mut CertTable,
    ca: &DevCa,
    hosts: &[Located<HostPattern>],
    acme_names: &BTreeSet<Box<str>>,
    diagnostics: &mut Vec<Diagnostic>,
) {
    // A client that connects to an address sends no name, so one certificate must cover all addresses.
    let mut local: Vec<String> = LOCAL_NAMES.map(String::from).into();
    for host in hosts {
        let name = match &host.value {
            HostPattern::Any => {
                let addresses = local_addrs().into_iter().map(|ip| ip.to_string());
                for address in addresses {
                    if !local.contains(&address) {
                        local.push(address);
                    }
                }
                continue;
            }
            HostPattern::Under(parent) => format!("*.{parent}"),
            HostPattern::Exact(name) => match address(name) {
                Some(address) => {
                    let address = address.to_string();
                    if !local.contains(&address) {
                        local.push(address);
                    }
                    continue;
                }
                None => name.to_string(),
            },
        };
        // Localhost is in the certificate for addresses.
        if local.contains(&name) {
            continue;
        }
        if table.find(&name).is_none() && !acme_names.contains(name.as_str()) {
            issue(table, ca, vec![name], diagnostics);
        }
    }
    table.local_cert = issue(table, ca, local, diagnostics).map(CertSet::of);
}

fn issue(
    table: &mut CertTable,
    ca: &DevCa,
    names: Vec<String>,
    diagnostics: &mut Vec<Diagnostic>,
) -> Option<Arc<CertifiedKey>> {
    match ca.issue(&names) {
        Ok(key) => {
            let key = Arc::new(key);
            let names = names.into_iter().map(Into::into).collect();
            let source = CertSource::Dev(ca.certificate_path().to_owned());
            table.insert(LoadedCert::new(source, names, key.clone()));
            Some(key)
        }
        Err(error) => {
            diagnostics.push(Diagnostic {
                at: None,
                message: format!(
                    "the development CA cannot issue a certificate for {}",
                    names.join(", ")
                ),
                hint: Some(ErrorChain(&error).to_string()),
            });
            None
        }
    }
}

/// The available certificates, for finding hosts without one.
struct Coverage<'a> {
    table: &'a CertTable,
    /// Names that receive their certificate by ACME.
    acme_names: &'a BTreeSet<Box<str>>,
}

// === impl Coverage ===

impl Coverage<'_> {
    /// Returns the diagnostic for a host without a certificate. With a default certificate it only logs a warning: the
    /// certificate has another name, but some clients accept it, such as load balancers that do not verify it.
    fn unserved(&self, host: &Located<HostPattern>, hint: &str) -> Option<Diagnostic> {
        let mut names = self
            .table
            .names()
            .chain(self.acme_names.iter().map(|name| &**name));
        let shown = match &host.value {
            HostPattern::Any if names.next().is_none() => "*".to_owned(),
            HostPattern::Under(parent) if !names.any(|name| under(name, parent)) => {
                format!("*.{parent}")
            }
            HostPattern::Exact(name) => match address(name) {
                Some(address) => return self.unserved_address(address, host.at),
                None if self.table.find(name).is_none() && !self.acme_names.contains(name) => {
                    name.to_string()
                }
                None => return None,
            },
            _ => return None,
        };
        if self.table.default_cert.is_some() {
            warn!(host = %shown, "no certificate names this host; clients receive that of tls.default");
            return None;
        }
        Some(Diagnostic {
            at: host.at,
            message: format!("the host {shown:?} is routed, but has no certificate"),
            hint: Some(match (self.table.names().len(), host.at) {
                // Only `run --to` has a host without a location, and with --acme only.
                (_, None) if hint == NO_ACME => {
                    format!("leave out --acme for {shown}, because no public CA certifies it")
                }
                (0, _) => hint.to_owned(),
                _ => format!("{hint}; {}", self.names_text()),
            }),
        })
    }

    fn unserved_address(&self, address: IpAddr, at: Option<Location>) -> Option<Diagnostic> {
        if self.table.without_sni().is_some() {
            return None;
        }
        let hint = match self.table.find(&address.to_string()) {
            Some(_) => format!("set tls.default = \"{address}\""),
            None => format!(
                "add a certificate that names it to tls.certificates and set tls.default = \"{address}\", or for \
                 development set tls.dev_ca = true"
            ),
        };
        Some(Diagnostic {
            at,
            message: format!(
                "the address {address} is routed, but clients that connect to an address send no server name, and tls.default \
                 is not set"
            ),
            hint: Some(hint),
        })
    }

    /// Returns a "did you mean" hint, or the list of available names.
    fn known_names(&self, requested: &str) -> String {
        let likeness = |name: &&str| (strsim::jaro_winkler(name, requested) * 1000.0) as u32;
        match self.table.names().max_by_key(likeness) {
            None => "no certificate is configured: see tls.certificates".into(),
            Some(name) if likeness(&name) >= 850 => format!("did you mean {name:?}?"),
            Some(_) => self.names_text(),
        }
    }

    /// Returns the names of the certificates from files, as a part of a hint.
    fn names_text(&self) -> String {
        let some: Vec<_> = self.table.names().take(10).collect();
        let more = if self.table.names().len() > some.len() {
            " …"
        } else {
            ""
        };
        format!("the certificates have: {}{more}", some.join(", "))
    }
}

/// Returns true if a certificate's name, which may be a wildcard, covers any host under `parent`.
fn under(name: &str, parent: &str) -> bool {
    name.strip_suffix(parent)
        .is_some_and(|rest| rest.ends_with('.'))
}

/// The names of the development CA's certificate for clients that connect to an address of this machine.
pub(crate) const LOCAL_NAMES: [&str; 3] = ["localhost", "127.0.0.1", "::1"];

const NO_CERTIFICATE: &str = "add a certificate that names it to tls.certificates, or an [acme] section, or for \
    development set tls.dev_ca = true";

const NO_ACME: &str = "ACME issues certificates only for names with a dot, for wildcards only with acme.dns, and not for routes \
    with acme = false: add a certificate that names it to tls.certificates";

#[cfg(test)]
mod tests;
