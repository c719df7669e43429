//! From the name that a client asks for to the certificate that it gets.
//!
//! In this order: the exact name; a wildcard for its first label, each among files and the development CA before what
//! ACME has laid out; `tls.default`; an alert. Without a name: `tls.default`,
//! with the development CA its certificate for localhost, an alert. Where two files name the same host the first one
//! written wins, with a warning.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::net::IpAddr;
use std::sync::Arc;

use rustls::server::{ClientHello, ResolvesServerCert};
use rustls::sign::CertifiedKey;
use tracing::warn;

use super::acceptor::normal;
use super::acme::date;
use super::{DevCa, Shelf, files, x509};
use crate::config::{HostPattern, Located, Location, Problem, Tls};
use crate::lifecycle::CertificateStatus;
use crate::observe::Causes;

/// The certificates of a gateway, by name.
pub struct Certificates {
    /// By DNS name, `*.name` or address, in lower case. An address is never asked for by name (RFC 6066 §3), but
    /// `tls.default` may be one.
    by_name: BTreeMap<Box<str>, Arc<CertifiedKey>>,
    /// For a name that is not here.
    unknown: Option<Arc<CertifiedKey>>,
    /// For clients that send no name.
    nameless: Option<Arc<CertifiedKey>>,
    /// Names, in lower case, that have nothing here and get theirs by ACME.
    issued: BTreeSet<Box<str>>,
    shelf: Arc<Shelf>,
    /// Where those of `by_name` are from.
    held: Vec<Held>,
}

/// A certificate, and where it is from.
struct Held {
    source: &'static str,
    from: String,
    names: Vec<Box<str>>,
    key: Arc<CertifiedKey>,
}

/// Where certificates come from, besides files.
#[derive(Debug, Default)]
pub struct Issuers<'a> {
    /// Signs for hosts without a certificate, where the config wants that.
    pub dev: Option<&'a DevCa>,
    /// What ACME has laid out.
    pub shelf: Arc<Shelf>,
}

// === impl Certificates ===

impl Certificates {
    /// Reads all files, and finds every problem at once. `hosts` are those that a TLS listener must serve. One without a
    /// certificate gets it by ACME if it is among `acme`, else from the development CA if there is one; otherwise it is
    /// a problem. `acme` is `None` where nothing is to be had by ACME.
    pub fn build(
        tls: &Tls,
        hosts: &[Located<HostPattern>],
        acme: Option<&BTreeSet<Box<str>>>,
        issuers: &Issuers<'_>,
        problems: &mut Vec<Problem>,
    ) -> Certificates {
        let mut certificates = Certificates {
            by_name: BTreeMap::new(),
            unknown: None,
            nameless: None,
            issued: BTreeSet::new(),
            shelf: issuers.shelf.clone(),
            held: Vec::new(),
        };
        let before = problems.len();
        for entry in &tls.certificates {
            if let Some(loaded) = files::read(entry, problems) {
                certificates.held.push(Held {
                    source: "file",
                    from: entry.cert.display().to_string(),
                    names: loaded.names.clone(),
                    key: loaded.key.clone(),
                });
                for name in loaded.names {
                    if !certificates.add(name.clone(), &loaded.key) {
                        warn!(%name, file = %entry.cert.display(), "an earlier certificate has this name and is served");
                    }
                }
            }
        }
        // What a broken file would have named is unknown: whatever else seems missing may be in it.
        let all_read = problems.len() == before;

        for name in acme.into_iter().flatten() {
            if certificates.find(name).is_none() {
                certificates.issued.insert(name.clone());
            }
        }
        if let Some(ca) = issuers.dev {
            certificates.develop(ca, hosts, problems);
        }
        if let Some(name) = &tls.default {
            certificates.unknown = certificates.find(&normal(name)).cloned();
            if certificates.unknown.is_some() {
                certificates.nameless = certificates.unknown.clone();
            } else if all_read {
                problems.push(Problem {
                    at: name.at,
                    message: format!("no certificate has the name {:?}", name.value),
                    hint: Some(certificates.known_names(name)),
                });
            }
        }
        if all_read && issuers.dev.is_none() {
            let hint = match acme {
                Some(_) => NO_ACME,
                None => NO_CERTIFICATE,
            };
            let unserved = hosts
                .iter()
                .filter_map(|host| certificates.unserved(host, hint));
            problems.extend(unserved);
        }
        certificates
    }

    /// Every name that has a certificate, sorted; a wildcard as `*.example.com`.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.by_name.keys().map(|name| &**name)
    }

    /// Names that get their certificate by ACME, sorted.
    pub fn issued(&self) -> &BTreeSet<Box<str>> {
        &self.issued
    }

    /// What files and the development CA give, one row per certificate.
    pub fn status(&self) -> Vec<CertificateStatus> {
        let mut rows: Vec<CertificateStatus> = Vec::new();
        for held in &self.held {
            let facts = held.key.cert.first().and_then(x509::facts);
            rows.push(CertificateStatus {
                host: held
                    .names
                    .first()
                    .map_or_else(String::new, |name| name.to_string()),
                source: held.source,
                from: held.from.clone(),
                names: held.names.iter().map(|name| name.to_string()).collect(),
                issuer: facts.as_ref().map(|facts| facts.issuer.clone()),
                not_after: facts.as_ref().map(|facts| date(facts.not_after)),
                ordering: false,
                next_attempt: None,
                error: None,
            });
        }
        rows
    }

    /// Whether the name was new.
    fn add(&mut self, name: Box<str>, key: &Arc<CertifiedKey>) -> bool {
        let new = !self.by_name.contains_key(&name);
        self.by_name.entry(name).or_insert_with(|| key.clone());
        new
    }

    /// `name` in lower case. A wildcard stands for exactly one label (RFC 9525 §6.3).
    fn find(&self, name: &str) -> Option<&Arc<CertifiedKey>> {
        self.by_name.get(name).or_else(|| {
            let (label, parent) = name.split_once('.')?;
            if label.is_empty() || address(name).is_some() {
                return None;
            }
            self.by_name.get(format!("*.{parent}").as_str())
        })
    }

    #[cfg(test)]
    pub(super) fn of(&self, name: &str) -> Arc<CertifiedKey> {
        self.find(name)
            .cloned()
            .expect("a certificate of that name")
    }

    /// What ACME has for `name`. It may know more names than this gateway does.
    fn laid_out(&self, name: &str) -> Option<Arc<CertifiedKey>> {
        if self.issued.contains(name) {
            return self.shelf.certificate(name);
        }
        let (label, parent) = name.split_once('.')?;
        let wildcard = format!("*.{parent}");
        let is_served = !label.is_empty() && self.issued.contains(wildcard.as_str());
        is_served.then(|| self.shelf.certificate(&wildcard))?
    }

    /// Has the development CA fill the gaps.
    fn develop(&mut self, ca: &DevCa, hosts: &[Located<HostPattern>], problems: &mut Vec<Problem>) {
        // A client that dials an address sends no name, so one certificate must do for all addresses.
        let mut local: Vec<String> = ["localhost", "127.0.0.1", "::1"].map(String::from).into();
        for host in hosts {
            let name = match &host.value {
                HostPattern::Any => continue,
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
            if self.find(&name).is_none() && !self.issued.contains(name.as_str()) {
                self.issue(ca, vec![name], problems);
            }
        }
        self.nameless = self.issue(ca, local, problems);
    }

    fn issue(
        &mut self,
        ca: &DevCa,
        names: Vec<String>,
        problems: &mut Vec<Problem>,
    ) -> Option<Arc<CertifiedKey>> {
        match ca.issue(&names) {
            Ok(key) => {
                let key = Arc::new(key);
                let names: Vec<Box<str>> = names.into_iter().map(Into::into).collect();
                self.held.push(Held {
                    source: "dev",
                    from: ca.certificate_path().display().to_string(),
                    names: names.clone(),
                    key: key.clone(),
                });
                for name in names {
                    self.add(name, &key);
                }
                Some(key)
            }
            Err(error) => {
                problems.push(Problem {
                    at: None,
                    message: format!(
                        "the development CA cannot issue a certificate for {}",
                        names.join(", ")
                    ),
                    hint: Some(Causes(&error).to_string()),
                });
                None
            }
        }
    }

    /// The problem of a host that no client could reach. A default certificate has another name, but a client may be
    /// content with it (a load balancer in front that does not check), so then it is a warning.
    fn unserved(&self, host: &Located<HostPattern>, hint: &str) -> Option<Problem> {
        let mut names = self.names().chain(self.issued.iter().map(|name| &**name));
        let shown = match &host.value {
            HostPattern::Any if names.next().is_none() => "*".to_owned(),
            HostPattern::Under(parent) if !names.any(|name| under(name, parent)) => {
                format!("*.{parent}")
            }
            HostPattern::Exact(name) => match address(name) {
                Some(address) => return self.unserved_address(address, host.at),
                None if self.find(name).is_none() && !self.issued.contains(name) => {
                    name.to_string()
                }
                None => return None,
            },
            _ => return None,
        };
        if self.unknown.is_some() {
            warn!(host = %shown, "this host has no certificate of its own: clients get that of tls.default");
            return None;
        }
        Some(Problem {
            at: host.at,
            message: format!("the host {shown:?} is routed, but has no certificate"),
            hint: Some(hint.into()),
        })
    }

    fn unserved_address(&self, address: IpAddr, at: Option<Location>) -> Option<Problem> {
        if self.nameless.is_some() {
            return None;
        }
        let hint = match self.find(&address.to_string()) {
            Some(_) => format!("set tls.default = \"{address}\""),
            None => format!(
                "add a certificate that names it to tls.certificates and set tls.default = \"{address}\", or for \
                 development set tls.dev_ca = true"
            ),
        };
        Some(Problem {
            at,
            message: format!(
                "the address {address} is routed, but clients that dial an address send no server name, and tls.default \
                 is not set"
            ),
            hint: Some(hint),
        })
    }

    /// "did you mean", or what there is to choose from.
    fn known_names(&self, wanted: &str) -> String {
        let likeness = |name: &&str| (strsim::jaro_winkler(name, wanted) * 1000.0) as u32;
        match self.names().max_by_key(likeness) {
            None => "no certificate is configured: see tls.certificates".into(),
            Some(name) if likeness(&name) >= 850 => format!("did you mean {name:?}?"),
            Some(_) => {
                let some: Vec<_> = self.names().take(10).collect();
                let more = if self.by_name.len() > some.len() {
                    " …"
                } else {
                    ""
                };
                format!("the certificates have: {}{more}", some.join(", "))
            }
        }
    }
}

impl ResolvesServerCert for Certificates {
    fn resolve(&self, hello: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        match hello.server_name() {
            Some(name) => {
                let name = normal(name);
                let own = self.find(&name).cloned().or_else(|| self.laid_out(&name));
                own.or_else(|| self.unknown.clone())
            }
            None => self.nameless.clone(),
        }
    }
}

impl fmt::Debug for Certificates {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_set().entries(self.names()).finish()
    }
}

const NO_CERTIFICATE: &str = "add a certificate that names it to tls.certificates, or an [acme] section, or for \
    development set tls.dev_ca = true";
const NO_ACME: &str = "ACME gives certificates to names with a dot, to wildcards only with acme.dns, and not where a route \
    has acme = false: add a certificate that names it to tls.certificates";

fn address(host: &str) -> Option<IpAddr> {
    host.trim_matches(['[', ']']).parse().ok()
}

/// Whether a certificate's name, maybe a wildcard, serves any host under `parent`.
fn under(name: &str, parent: &str) -> bool {
    name.strip_suffix(parent)
        .is_some_and(|rest| rest.ends_with('.'))
}

#[cfg(test)]
mod tests;
