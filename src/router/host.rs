//! Hosts in the form in which they are compared: the `Host` field, an absolute target's authority and `:authority` (RFC
//! 9110 §7.2).

use std::{borrow::Cow, net::Ipv6Addr};

/// The host and port that a request is addressed to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Authority<'a> {
    /// In lower case, without the final dot; an IPv6 address without brackets, in its shortest form (RFC 5952).
    pub host: Cow<'a, str>,
    /// The port as written; `None` means the scheme's default.
    pub port: Option<u16>,
}

/// Why an authority is invalid. The client's fault: 400.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(crate) enum BadAuthority {
    /// Empty, or only a dot or a port.
    #[error("the host is empty")]
    Empty,
    /// Longer than a DNS name can be.
    #[error("the host is longer than 253 characters")]
    TooLong,
    /// `user@host`: the part before `@` can be mistaken for the host (RFC 9110 §4.2.4).
    #[error("the host carries user information")]
    Userinfo,
    /// Two dots in a row, or one at the beginning.
    #[error("the host has an empty label")]
    EmptyLabel,
    /// Anything but letters, digits, `-`, `_` and dots: a path, a list, white space, an escape, a control character.
    #[error("the host has a character that no host has")]
    Character,
    /// Not 1 to 65535 in digits; also when nothing follows the colon.
    #[error("the port is not a number from 1 to 65535")]
    Port,
    /// Brackets around anything else, or a zone, which has no meaning beyond one machine (RFC 6874 §1).
    #[error("the host in brackets is not an IPv6 address")]
    Ipv6,
}

// === impl Authority ===

impl<'a> Authority<'a> {
    /// Returns the authority of a request that names none: only routes for every host match it.
    pub(crate) fn unknown() -> Authority<'static> {
        Authority {
            host: Cow::Borrowed(""),
            port: None,
        }
    }

    /// Parses `host`, `host:port` or `[ipv6]:port`. Stricter than RFC 3986 §3.2.2: a host that DNS does not allow is
    /// refused, except for `_`, which names of containers may have.
    pub(crate) fn parse(written: &'a str) -> Result<Authority<'a>, BadAuthority> {
        if written.contains('@') {
            return Err(BadAuthority::Userinfo);
        }
        if let Some(rest) = written.strip_prefix('[') {
            let (address, after) = rest.split_once(']').ok_or(BadAuthority::Ipv6)?;
            let address: Ipv6Addr = address.parse().map_err(|_| BadAuthority::Ipv6)?;
            let port = match after.strip_prefix(':') {
                Some(port) => Some(parse_port(port)?),
                None if after.is_empty() => None,
                None => return Err(BadAuthority::Character),
            };
            return Ok(Authority {
                host: Cow::Owned(address.to_string()),
                port,
            });
        }
        let (host, port) = match written.split_once(':') {
            Some((host, port)) => (host, Some(parse_port(port)?)),
            None => (written, None),
        };
        Ok(Authority {
            host: parse_name(host)?,
            port,
        })
    }
}

fn parse_name(written: &str) -> Result<Cow<'_, str>, BadAuthority> {
    // The final dot stands for the root and makes no difference here (RFC 3986 §3.2.2).
    let name = written.strip_suffix('.').unwrap_or(written);
    if name.is_empty() {
        return Err(BadAuthority::Empty);
    }
    if name.len() > MAX_NAME_LEN {
        return Err(BadAuthority::TooLong);
    }
    let is_allowed = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'.');
    if !name.bytes().all(is_allowed) {
        return Err(BadAuthority::Character);
    }
    if name.split('.').any(str::is_empty) {
        return Err(BadAuthority::EmptyLabel);
    }
    // Hosts are case-insensitive (RFC 9110 §4.2.3).
    Ok(if name.bytes().any(|byte| byte.is_ascii_uppercase()) {
        Cow::Owned(name.to_ascii_lowercase())
    } else {
        Cow::Borrowed(name)
    })
}

fn parse_port(written: &str) -> Result<u16, BadAuthority> {
    // `parse` alone would accept a sign.
    if !written.bytes().all(|byte| byte.is_ascii_digit()) {
        return Err(BadAuthority::Port);
    }
    match written.parse() {
        Ok(0) | Err(_) => Err(BadAuthority::Port),
        Ok(port) => Ok(port),
    }
}

/// 255 octets on the wire, minus the first length octet and the root (RFC 1035 §2.3.4).
const MAX_NAME_LEN: usize = 253;

#[cfg(test)]
mod tests;
