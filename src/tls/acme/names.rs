//! The hosts of a configuration that can have a certificate by ACME.

use std::collections::BTreeSet;
use std::net::IpAddr;

use crate::config::{Config, HostPattern};

/// Returns the names that can be ordered, wildcards as `*.example.com`; `None` without an `[acme]` section.
///
/// Excluded are addresses and names without a dot, which no public CA certifies, wildcards without `acme.dns`, and the
/// hosts of routes with `acme = false`, unless another route names them too.
pub fn acme_names(config: &Config) -> Option<BTreeSet<Box<str>>> {
    let acme = config.acme.as_ref()?;
    let routes = config.routes.iter().filter(|route| route.acme);
    let name = |host: &HostPattern| match host {
        HostPattern::Any => None,
        HostPattern::Under(parent) => acme.dns.as_ref().map(|_| format!("*.{parent}").into()),
        HostPattern::Exact(name) => {
            (name.contains('.') && name.parse::<IpAddr>().is_err()).then(|| name.clone())
        }
    };
    Some(
        routes
            .flat_map(|route| route.hosts.iter().filter_map(name))
            .collect(),
    )
}
