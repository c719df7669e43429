//! A route's `allow` and `deny`.

use crate::{
    config::Cidr,
    guard::{Denial, DenialReason},
};
use std::net::IpAddr;

/// The networks whose clients may use a route. `deny` takes precedence over `allow`; an empty `allow` denies every
/// client.
#[derive(Debug, Clone)]
pub struct AddressGuard {
    allow: Allow,
    deny: Box<[Cidr]>,
}

#[derive(Debug, Clone)]
enum Allow {
    /// Every address: `allow` contains the whole of IPv4 and of IPv6, as by default, so no comparison is needed.
    All,
    Networks(Box<[Cidr]>),
}

// === impl AddressGuard ===

impl AddressGuard {
    /// Creates the guard from `routes.allow` and `routes.deny`.
    pub fn new(allow: &[Cidr], deny: &[Cidr]) -> AddressGuard {
        let all_of_family = |v4: bool| {
            allow
                .iter()
                .any(|Cidr(net)| net.prefix_len() == 0 && net.addr().is_ipv4() == v4)
        };
        AddressGuard {
            allow: if all_of_family(true) && all_of_family(false) {
                Allow::All
            } else {
                Allow::Networks(allow.into())
            },
            deny: deny.into(),
        }
    }

    /// Checks a client's address; an IPv4-mapped address counts as the IPv4 one.
    pub fn check(&self, client: IpAddr) -> Result<(), Denial> {
        let client = client.to_canonical();
        let within = |networks: &[Cidr]| networks.iter().any(|net| net.contains(client));
        let allowed = match &self.allow {
            Allow::All => true,
            Allow::Networks(networks) => within(networks),
        };
        let text = if within(&self.deny) {
            format!("Address {client} is denied by this route: it lies within its `deny`.")
        } else if !allowed {
            format!("Address {client} is not allowed by this route: add it to `allow`.")
        } else {
            return Ok(());
        };
        Err(Denial::forbidden(DenialReason::Address, text))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// `allow` and `deny` separated by blanks, the client, and whether it is admitted.
    const TABLE: &[(&str, &str, &str, bool)] = &[
        ("0.0.0.0/0 ::/0", "", "203.0.113.9", true),
        ("0.0.0.0/0 ::/0", "", "2001:db8::1", true),
        ("0.0.0.0/0 ::/0", "", "::ffff:203.0.113.9", true),
        ("::/0 0.0.0.0/0", "", "203.0.113.9", true),
        ("0.0.0.0/0", "", "203.0.113.9", true),
        ("0.0.0.0/0", "", "2001:db8::1", false),
        ("0.0.0.0/0", "", "::ffff:203.0.113.9", true),
        ("::/0", "", "2001:db8::1", true),
        ("::/0", "", "203.0.113.9", false),
        ("::/0", "", "::ffff:203.0.113.9", false),
        ("", "", "203.0.113.9", false),
        ("", "", "::1", false),
        ("10.0.0.0/8", "", "10.255.255.255", true),
        ("10.0.0.0/8", "", "11.0.0.0", false),
        ("10.0.0.0/8", "", "::ffff:10.1.2.3", true),
        ("10.0.0.0/8", "", "::ffff:11.1.2.3", false),
        ("10.0.0.7/32", "", "10.0.0.7", true),
        ("10.0.0.7/32", "", "10.0.0.8", false),
        ("2001:db8::/32", "", "2001:db8:ffff::1", true),
        ("2001:db8::/32", "", "2001:db9::1", false),
        ("::1/128 127.0.0.0/8", "", "127.3.2.1", true),
        ("0.0.0.0/0 ::/0", "10.0.0.0/8", "10.1.1.1", false),
        ("0.0.0.0/0 ::/0", "10.0.0.0/8", "::ffff:10.1.1.1", false),
        ("0.0.0.0/0 ::/0", "10.0.0.0/8", "9.1.1.1", true),
        ("0.0.0.0/0 ::/0", "::/0", "9.1.1.1", true),
        ("0.0.0.0/0 ::/0", "::/0", "::1", false),
        ("10.0.0.0/8", "10.0.0.0/8", "10.1.1.1", false),
        ("10.1.1.1/32", "10.0.0.0/8", "10.1.1.1", false),
        ("10.0.0.0/8", "10.1.1.1/32", "10.1.1.1", false),
        ("10.0.0.0/8", "10.1.1.1/32", "10.1.1.2", true),
    ];

    fn networks(text: &str) -> Vec<Cidr> {
        text.split_whitespace()
            .map(|net| Cidr(net.parse().unwrap()))
            .collect()
    }

    #[test]
    fn deny_beats_allow_and_mapped_addresses_are_unmapped() {
        for (allow, deny, client, admitted) in TABLE {
            let guard = AddressGuard::new(&networks(allow), &networks(deny));
            let found = guard.check(client.parse().unwrap());
            assert_eq!(found.is_ok(), *admitted, "{allow:?} {deny:?} {client}");
        }
    }

    #[test]
    fn denial_names_the_address_and_the_key() {
        let guard = AddressGuard::new(&networks("10.0.0.0/8"), &networks("10.6.6.6/32"));
        let refused = |client: &str| guard.check(client.parse().unwrap()).unwrap_err();

        let unlisted = refused("::ffff:192.0.2.1");
        assert_eq!(unlisted.why, DenialReason::Address);
        assert!(unlisted.text.contains("192.0.2.1") && unlisted.text.contains("`allow`"));
        assert!(!unlisted.text.contains("ffff"), "{}", unlisted.text);

        let denied = refused("10.6.6.6");
        assert!(denied.text.contains("10.6.6.6") && denied.text.contains("`deny`"));
    }
}
