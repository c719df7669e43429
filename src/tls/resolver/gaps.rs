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
    pub(super) issued: &'a BTreeSet<Box<str>>,
}

// === impl Coverage ===

impl Coverage<'_> {
    /// Returns the diagnostic for a host that no client could reach. With a default certificate it is only a warning: the
    /// certificate has another name, but some clients accept it (a load balancer that does not verify).
    pub(super) fn unserved(&self, host: &Located<HostPattern>, hint: &str) -> Option<Diagnostic> {
        let mut names = self
            .table
            .names()
            .chain(self.issued.iter().map(|name| &**name));
        let shown = match &host.value {
            HostPattern::Any if names.next().is_none() => "*".to_owned(),
            HostPattern::Under(parent) if !names.any(|name| under(name, parent)) => {
                format!("*.{parent}")
            }
            HostPattern::Exact(name) => match address(name) {
                Some(address) => return self.unserved_address(address, host.at),
                None if self.table.find(name).is_none() && !self.issued.contains(name) => {
                    name.to_string()
                }
                None => return None,
            },
            _ => return None,
        };
        if self.table.unknown.is_some() {
            warn!(host = %shown, "this host has no certificate of its own: clients get that of tls.default");
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
    pub(super) fn known_names(&self, wanted: &str) -> String {
        let likeness = |name: &&str| (strsim::jaro_winkler(name, wanted) * 1000.0) as u32;
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
pub(super) const NO_ACME: &str = "ACME gives certificates to names with a dot, to wildcards only with acme.dns, and not where a route \
    has acme = false: add a certificate that names it to tls.certificates";

/// Returns true if a certificate's name, which may be a wildcard, covers any host under `parent`.
fn under(name: &str, parent: &str) -> bool {
    name.strip_suffix(parent)
        .is_some_and(|rest| rest.ends_with('.'))
}
