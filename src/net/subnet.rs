//! The key of a client address for limits and load balancing.

use std::net::IpAddr;

/// An IPv4 address, or the /64 of an IPv6 address: one subscriber receives a whole /64, and one machine can use any
/// address within it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) enum SubnetKey {
    V4([u8; 4]),
    V6([u8; 8]),
}

// === impl SubnetKey ===

impl SubnetKey {
    /// Returns the key of `address`; an IPv4-mapped address has the key of its IPv4 address.
    pub(crate) fn of(address: IpAddr) -> Self {
        match address.to_canonical() {
            IpAddr::V4(v4) => SubnetKey::V4(v4.octets()),
            IpAddr::V6(v6) => {
                let [a, b, c, d, e, f, g, h, ..] = v6.octets();
                SubnetKey::V6([a, b, c, d, e, f, g, h])
            }
        }
    }

    /// Returns the octets of the IPv4 address, or the first eight of the IPv6 address.
    pub(crate) fn octets(&self) -> &[u8] {
        match self {
            SubnetKey::V4(octets) => octets,
            SubnetKey::V6(octets) => octets,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn key_is_the_ipv4_address_or_the_64_bit_prefix() {
        let of = |address: &str| SubnetKey::of(address.parse().unwrap());
        assert_eq!(of("192.0.2.1").octets(), [192, 0, 2, 1]);
        assert_eq!(of("::ffff:192.0.2.1"), of("192.0.2.1"));
        assert_ne!(of("192.0.2.1"), of("192.0.2.2"));
        assert_eq!(
            of("2001:db8:0:1::1").octets(),
            [0x20, 0x01, 0x0d, 0xb8, 0, 0, 0, 1]
        );
        assert_eq!(of("2001:db8::1"), of("2001:db8::ffff:1"));
        assert_ne!(of("2001:db8::1"), of("2001:db8:0:1::1"));
        assert_ne!(of("::1"), of("0.0.0.0"));
    }
}
