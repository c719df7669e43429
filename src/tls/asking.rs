//! The set of hosts for which client authentication is requested.

use std::collections::HashSet;
use std::iter;
use std::net::IpAddr;

use crate::config::HostPattern;

/// The hosts of all routes that use client certificates.
#[derive(Debug, Default)]
pub(super) struct ClientAuthHosts {
    any: bool,
    /// True if at least one host is an IP address.
    address: bool,
    exact: HashSet<Box<str>>,
    /// The parents of wildcard patterns; every name below one of them is included.
    under: HashSet<Box<str>>,
}

// === impl ClientAuthHosts ===

impl ClientAuthHosts {
    pub(super) fn is_empty(&self) -> bool {
        !self.any && !self.address && self.exact.is_empty() && self.under.is_empty()
    }

    /// Returns true if `name`, in lower case and without a trailing dot, is in the set. A client that connects to an IP
    /// address sends no name (RFC 6066 §3), so every address counts as a missing name.
    pub(super) fn contains(&self, name: Option<&str>) -> bool {
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

/// Returns the host without its first label.
fn parent(host: &str) -> Option<&str> {
    host.split_once('.').map(|(_, parent)| parent)
}

#[cfg(test)]
mod tests {
    use super::*;

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
}
