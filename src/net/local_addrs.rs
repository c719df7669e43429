//! The addresses of this machine's network interfaces.

use nix::{ifaddrs::getifaddrs, net::if_::InterfaceFlags};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// Returns the addresses by which other machines reach this one: those of interfaces that are up, without loopback and
/// link-local addresses, at most [`MAX_ADDRS`]. None if the system does not report them.
pub(crate) fn local_addrs() -> Vec<IpAddr> {
    let mut addrs = Vec::new();
    let interfaces = getifaddrs().into_iter().flatten();
    let up = interfaces.filter(|it| it.flags.contains(InterfaceFlags::IFF_UP));
    for address in up.filter_map(|it| it.address) {
        let ipv4 = address.as_sockaddr_in().map(|it| IpAddr::V4(it.ip()));
        let ipv6 = address.as_sockaddr_in6().map(|it| IpAddr::V6(it.ip()));
        let reachable = ipv4.or(ipv6).filter(is_reachable);
        if let Some(ip) = reachable.filter(|ip| !addrs.contains(ip)) {
            addrs.push(ip);
        }
    }
    addrs.truncate(MAX_ADDRS);
    addrs
}

fn is_reachable(ip: &IpAddr) -> bool {
    match ip {
        IpAddr::V4(ip) => !ip.is_loopback() && !ip.is_link_local() && *ip != Ipv4Addr::UNSPECIFIED,
        IpAddr::V6(ip) => {
            !ip.is_loopback() && !ip.is_unicast_link_local() && *ip != Ipv6Addr::UNSPECIFIED
        }
    }
}

/// More than a development machine has, and few enough for one certificate.
const MAX_ADDRS: usize = 16;
