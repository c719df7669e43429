//! Listen addresses, and networks in CIDR notation.

use crate::config::values::{BadValue, text_value};
use std::{
    fmt,
    net::{IpAddr, Ipv6Addr, SocketAddr},
    str::FromStr,
};

/// A listen address: `[::]:443`, "127.0.0.1:8443", or ":443" for every address.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct ListenAddress(pub SocketAddr);

/// A network, "10.0.0.0/8"; a plain address is its /32 or /128. IPv4-mapped IPv6 is unmapped.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Cidr(pub ipnet::IpNet);

text_value!(
    ListenAddress,
    "an address and a port, such as \"[::]:443\"",
    ["[::]:443", "127.0.0.1:8443"]
);

text_value!(
    Cidr,
    "a network, such as \"10.0.0.0/8\"",
    ["10.0.0.0/8", "2001:db8::/32", "192.0.2.7"]
);

// === impl ListenAddress ===

impl FromStr for ListenAddress {
    type Err = BadValue;

    fn from_str(text: &str) -> Result<Self, BadValue> {
        if let Some(port) = text.strip_prefix(':')
            && let Ok(port) = port.parse()
        {
            return Ok(ListenAddress((Ipv6Addr::UNSPECIFIED, port).into()));
        }
        text.parse().map(ListenAddress).map_err(|_| {
            let hint = match (text, text.parse::<u16>()) {
                ("off" | "none" | "", _) => "for no listener write [], an empty list".to_owned(),
                (_, Ok(port)) => format!("write it as \"[::]:{port}\" (every address, IPv4 too) or \"127.0.0.1:{port}\""),
                _ => "write it as \"[::]:443\" (every address, IPv4 too), \"0.0.0.0:443\" or \"127.0.0.1:8443\"; names are not resolved".to_owned(),
            };
            BadValue::new(format!("`{text}` is not an address and a port"), hint)
        })
    }
}

impl fmt::Display for ListenAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

// === impl Cidr ===

impl Cidr {
    /// Returns whether `address`, with an IPv4-mapped address unmapped, lies in the network.
    pub fn contains(&self, address: IpAddr) -> bool {
        self.0.contains(&address.to_canonical())
    }
}

impl FromStr for Cidr {
    type Err = BadValue;

    fn from_str(text: &str) -> Result<Self, BadValue> {
        let bad = || {
            BadValue::new(
                format!("`{text}` is not a network"),
                "write it as \"10.0.0.0/8\", \"2001:db8::/32\", or \"192.0.2.7\" for one address",
            )
        };
        let Some((address, length)) = text.split_once('/') else {
            return text
                .parse()
                .map(|address: IpAddr| Cidr(address.to_canonical().into()))
                .map_err(|_| bad());
        };
        let address: IpAddr = address.parse().map_err(|_| bad())?;
        let length: u8 = length.parse().map_err(|_| bad())?;
        let (address, length) = match (address, address.to_canonical()) {
            (IpAddr::V6(_), v4 @ IpAddr::V4(_)) => (v4, length.checked_sub(96).ok_or_else(bad)?),
            (as_written, _) => (as_written, length),
        };
        ipnet::IpNet::new(address, length)
            .map(Cidr)
            .map_err(|_| bad())
    }
}

impl fmt::Display for Cidr {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn listen_addresses_parse_and_print() {
        for (text, shown) in [
            (":443", "[::]:443"),
            ("127.0.0.1:0", "127.0.0.1:0"),
            ("[::1]:1", "[::1]:1"),
        ] {
            assert_eq!(text.parse::<ListenAddress>().unwrap().to_string(), shown);
        }
        for bad in ["", "443", "localhost:443", "127.0.0.1", ":70000", "::1:1:"] {
            assert!(bad.parse::<ListenAddress>().is_err(), "{bad}");
        }
    }

    #[test]
    fn network_contains_its_addresses() {
        for (text, inside, outside) in [
            ("10.0.0.0/8", "10.1.2.3", "11.0.0.1"),
            ("192.0.2.7", "::ffff:192.0.2.7", "192.0.2.8"),
            ("::ffff:10.0.0.0/104", "10.1.2.3", "11.0.0.1"),
            ("2001:db8::/32", "2001:db8::1", "2001:db9::1"),
        ] {
            let network: Cidr = text.parse().unwrap();
            assert!(network.contains(inside.parse().unwrap()), "{text} {inside}");
            assert!(
                !network.contains(outside.parse().unwrap()),
                "{text} {outside}"
            );
        }
        for bad in [
            "",
            "10.0.0.0/33",
            "10.0.0/8",
            "a/8",
            "::/129",
            "::ffff:1.2.3.4/8",
            "10.0.0.0/",
        ] {
            assert!(bad.parse::<Cidr>().is_err(), "{bad}");
        }
    }
}
