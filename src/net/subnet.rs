//! The key of a client address for limits and load balancing.

use std::{net::IpAddr, num::NonZeroU64};

/// An IPv4 address, or the /64 of an IPv6 address: one subscriber receives a whole /64, and one machine can use any
/// address within it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) enum SubnetKey {
    V4([u8; 4]),
    V6([u8; 8]),
}

/// A [`SubnetKey`] in eight bytes, for state that every session holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) struct PackedSubnet(NonZeroU64);

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

    /// Returns the key in eight bytes. IPv4 addresses are in the range of IPv6 multicast, which is no source address.
    pub(crate) fn pack(self) -> PackedSubnet {
        let bits = match self {
            SubnetKey::V4(octets) => IPV4_BITS | u64::from(u32::from_be_bytes(octets)),
            SubnetKey::V6(octets) => u64::from_be_bytes(octets),
        };
        PackedSubnet(NonZeroU64::new(bits).unwrap_or(NonZeroU64::MAX))
    }
}

// === impl PackedSubnet ===

impl PackedSubnet {
    /// Returns the bits, which are never 0.
    pub(crate) fn bits(self) -> u64 {
        self.0.get()
    }

    /// Returns the key with these bits; `None` for 0.
    pub(crate) fn from_bits(bits: u64) -> Option<Self> {
        NonZeroU64::new(bits).map(PackedSubnet)
    }
}

/// The upper half of a packed IPv4 address.
const IPV4_BITS: u64 = 0xFFFF_0000_0000_0000;

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

    #[test]
    fn packed_keys_differ_like_the_keys() {
        let addresses = [
            "0.0.0.0",
            "192.0.2.1",
            "255.255.255.255",
            "::1",
            "2001:db8::1",
        ];
        let keys = addresses.map(|address| SubnetKey::of(address.parse().unwrap()));
        for one in keys {
            let packed = one.pack();
            assert_eq!(PackedSubnet::from_bits(packed.bits()), Some(packed));
            for other in keys {
                assert_eq!(packed == other.pack(), one == other);
            }
        }
        assert_eq!(PackedSubnet::from_bits(0), None);
    }
}
