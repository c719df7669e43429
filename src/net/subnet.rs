//! Keys of limits per client address.

use std::net::{IpAddr, Ipv6Addr};

/// Returns the key of a limit per client address: an IPv4 address itself, an IPv6 address by its /64, because one
/// subscriber receives a whole /64.
pub(crate) fn subnet_key(address: IpAddr) -> IpAddr {
    match address.to_canonical() {
        IpAddr::V6(v6) => {
            let [a, b, c, d, ..] = v6.segments();
            IpAddr::V6(Ipv6Addr::new(a, b, c, d, 0, 0, 0, 0))
        }
        v4 => v4,
    }
}
