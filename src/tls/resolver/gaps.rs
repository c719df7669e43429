//! Finds routed hosts that no certificate covers.

use std::collections::BTreeSet;
use std::net::IpAddr;

use tracing::warn;

use super::table::{CertTable, address};
use crate::config::{Diagnostic, HostPattern, Located, Location};

/// The available certificates, for finding hosts without one.
pub(super) struct Coverage<'a> {
    pub(super) table: &'a CertTable,
    /// Names that receive their certificate by ACME.
    pub(super) acme_names: &'a BTreeSet<Box<str>>,
}

// === impl Coverage ===

impl Coverage<'_> {
    /// Returns the diagnostic for a host without a certificate. With a default certificate it only logs a warning: the
    /// certificate has another name, but some clients accept it, such as load balancers that do not verify it.
    pub(super) fn unserved(&self, host: &Located<HostPattern>, hint: &str) -> Option<Diagnostic> {
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
            hint: Some(hint.into()),
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
    pub(super) fn known_names(&self, requested: &str) -> String {
        let likeness = |name: &&str| (strsim::jaro_winkler(name, requested) * 1000.0) as u32;
        match self.table.names().max_by_key(likeness) {
            None => "no certificate is configured: see tls.certificates".into(),
            Some(name) if likeness(&name) >= 850 => format!("did you mean {name:?}?"),
            Some(_) => {
                let some: Vec<_> = self.table.names().take(10).collect();
                let more = if self.table.names().len() > some.len() {
                    " …"
                } else {
                    ""
                };
                format!("the certificates have: {}{more}", some.join(", "))
            }
        }
    }
}

pub(super) const NO_CERTIFICATE: &str = "add a certificate that names it to tls.certificates, or an [acme] section, or for \
    development set tls.dev_ca = true";
pub(super) const NO_ACME: &str = "ACME issues certificates only for names with a dot, for wildcards only with acme.dns, and not for routes \
    with acme = false: add a certificate that names it to tls.certificates";

/// Returns true if a certificate's name, which may be a wildcard, covers any host under `parent`.
fn under(name: &str, parent: &str) -> bool {
    name.strip_suffix(parent)
        .is_some_and(|rest| rest.ends_with('.'))
}
