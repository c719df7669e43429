//! The PROXY protocol in front of a connection, versions 1 and 2
//! (<https://www.haproxy.org/download/3.2/doc/proxy-protocol.txt>).
//!
//! The `proxy-header` crate decodes and encodes a complete header. This module adds length limits, the early refusal of
//! bytes that cannot become a header (so that a TLS client without a header is refused at once), and rules that the
//! crate does not check.

use proxy_header::{ParseConfig, ProxiedAddress};
use std::net::{IpAddr, SocketAddr};
use thiserror::Error;

/// A complete PROXY header.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ProxyHeader {
    /// Length of the header in bytes; the client's data follows.
    pub len: usize,
    /// The client's address; an IPv4-mapped one is unmapped. `None` for LOCAL, UNKNOWN, UNSPEC and Unix sockets: the
    /// address of the connection applies.
    pub source: Option<SocketAddr>,
}

/// Why the bytes are not a PROXY header.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
pub enum BadProxyHeader {
    /// The signature of neither version.
    #[error("the connection does not begin with a PROXY header")]
    Signature,
    /// Version 1: a line that violates the grammar.
    #[error("the PROXY v1 line is malformed")]
    Line,
    /// Version 2: an unknown version or command.
    #[error("the PROXY v2 header has an unknown version or command")]
    Command,
    /// Version 2: an address family that a TCP connection cannot have.
    #[error("the PROXY v2 header has an unusable address family")]
    Family,
    /// Version 2: shorter than its addresses.
    #[error("the PROXY v2 header is shorter than its addresses")]
    TooShort,
    /// Longer than [`MAX_LEN`], or than 107 bytes in version 1.
    #[error("the PROXY header is too long")]
    TooLong,
}

/// Parses the header at the front of `bytes`. `Ok(None)` means that more are needed, at most [`MAX_LEN`] in total.
pub fn parse(bytes: &[u8]) -> Result<Option<ProxyHeader>, BadProxyHeader> {
    match bytes.first() {
        None => Ok(None),
        Some(b'P') => parse_v1(bytes),
        Some(_) => parse_v2(bytes),
    }
}

/// Version of a header to be sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ProxyVersion {
    /// Version 1: a line of text.
    V1,
    /// Version 2: binary.
    V2,
}

/// Returns the header for a connection from `source` to `destination`. If the families differ, IPv4 is mapped.
pub fn header(version: ProxyVersion, source: SocketAddr, destination: SocketAddr) -> Vec<u8> {
    let canonical = |at: SocketAddr| SocketAddr::new(at.ip().to_canonical(), at.port());
    let mapped = |at: SocketAddr| match at.ip() {
        IpAddr::V4(ip) => SocketAddr::new(ip.to_ipv6_mapped().into(), at.port()),
        // The header has no field for flow information or scope.
        IpAddr::V6(_) => SocketAddr::new(at.ip(), at.port()),
    };
    let (source, destination) = match (canonical(source), canonical(destination)) {
        (source, destination) if source.is_ipv4() && destination.is_ipv4() => (source, destination),
        (source, destination) => (mapped(source), mapped(destination)),
    };
    let header =
        proxy_header::ProxyHeader::with_address(ProxiedAddress::stream(source, destination));
    let mut bytes = Vec::with_capacity(V1_MAX_LEN);
    let encoded = match version {
        ProxyVersion::V1 => header.encode_v1(&mut bytes),
        ProxyVersion::V2 => header.encode_v2(&mut bytes),
    };
    encoded.expect("both are TCP addresses of one family");
    bytes
}

/// Returns the header of a connection of the proxy's own: UNKNOWN in version 1, LOCAL in version 2.
pub fn own_header(version: ProxyVersion) -> &'static [u8] {
    match version {
        ProxyVersion::V1 => b"PROXY UNKNOWN\r\n",
        // Version 2 and LOCAL, no family, no addresses.
        ProxyVersion::V2 => b"\r\n\r\n\0\r\nQUIT\n\x20\0\0\0",
    }
}

/// Parses version 1: `PROXY TCP4 192.0.2.1 192.0.2.9 56324 443\r\n`.
fn parse_v1(bytes: &[u8]) -> Result<Option<ProxyHeader>, BadProxyHeader> {
    const PROTOCOLS: [(&[u8], &[u8]); 3] = [
        (b"PROXY TCP4 ", b"0123456789. "),
        (b"PROXY TCP6 ", b"0123456789abcdefABCDEF:. "),
        (b"PROXY UNKNOWN", b""),
    ];
    // One byte more than fits before CR and LF: enough to detect a line that is too long; later bytes are ignored.
    let line = bytes.get(..V1_MAX_LEN - 1).unwrap_or(bytes);
    let end = line.iter().position(|byte| *byte == b'\r');
    let line = line.get(..end.unwrap_or(line.len())).unwrap_or_default();
    let protocol = PROTOCOLS
        .iter()
        .find(|(prefix, _)| line.starts_with(prefix));
    let Some((prefix, alphabet)) = protocol else {
        let may_become = |(prefix, _): &(&[u8], _)| prefix.starts_with(line);
        return match end {
            None if PROTOCOLS.iter().any(may_become) => Ok(None),
            _ if line.len() > 6 && line.starts_with(b"PROXY ") => Err(BadProxyHeader::Line),
            _ => Err(BadProxyHeader::Signature),
        };
    };
    let fields = line.get(prefix.len()..).unwrap_or_default();
    let is_valid = if alphabet.is_empty() {
        // UNKNOWN: the rest of the line is ignored.
        fields.first().is_none_or(|byte| *byte == b' ')
    } else {
        fields.iter().all(|byte| alphabet.contains(byte))
    };
    if !is_valid {
        return Err(BadProxyHeader::Line);
    }
    if line.len() > V1_MAX_LEN - 2 {
        return Err(BadProxyHeader::TooLong);
    }
    let Some(end) = end else { return Ok(None) };
    match bytes.get(end + 1) {
        None => Ok(None),
        Some(b'\n') => decode(bytes, end + 2).map_err(|_| BadProxyHeader::Line),
        Some(_) => Err(BadProxyHeader::Line),
    }
}

fn parse_v2(bytes: &[u8]) -> Result<Option<ProxyHeader>, BadProxyHeader> {
    if !bytes
        .iter()
        .zip(V2_SIGNATURE)
        .all(|(actual, expected)| actual == expected)
    {
        return Err(BadProxyHeader::Signature);
    }
    let rest = bytes.get(V2_SIGNATURE.len()..).unwrap_or_default();
    let Some((command, rest)) = rest.split_first() else {
        return Ok(None);
    };
    let local = match command {
        0x20 => true,
        0x21 => false,
        _ => return Err(BadProxyHeader::Command),
    };
    let Some((family, rest)) = rest.split_first() else {
        return Ok(None);
    };
    let addresses = match family {
        // LOCAL is accepted with any family, and its addresses are ignored.
        _ if local => 0,
        0x00 => 0,
        0x11 => 2 * (4 + 2),
        0x21 => 2 * (16 + 2),
        0x31 => 2 * 108,
        // Datagram protocols, and unassigned values.
        _ => return Err(BadProxyHeader::Family),
    };
    let Some(([high, low], _)) = rest.split_first_chunk::<2>() else {
        return Ok(None);
    };
    let body = usize::from(u16::from_be_bytes([*high, *low]));
    let len = V2_SIGNATURE.len() + 4 + body;
    if body < addresses {
        return Err(BadProxyHeader::TooShort);
    }
    if len > MAX_LEN {
        return Err(BadProxyHeader::TooLong);
    }
    if bytes.len() < len {
        return Ok(None);
    }
    if local {
        return Ok(Some(ProxyHeader { len, source: None }));
    }
    decode(bytes, len).map_err(|_| BadProxyHeader::Family)
}

/// Decodes the complete header of `len` bytes with the crate.
fn decode(bytes: &[u8], len: usize) -> Result<Option<ProxyHeader>, proxy_header::Error> {
    let config = ParseConfig {
        include_tlvs: false,
        ..ParseConfig::default()
    };
    let header_bytes = bytes.get(..len).unwrap_or_default();
    let (header, _) = proxy_header::ProxyHeader::parse(header_bytes, config)?;
    let source = header.proxied_address().map(|address| {
        let source = address.source;
        SocketAddr::new(source.ip().to_canonical(), source.port())
    });
    Ok(Some(ProxyHeader { len, source }))
}

/// Maximum length of a header: the default segment size of TCP (RFC 9293 §3.7.1), which the specification requires a
/// header to fit into. A header with the largest addresses (Unix, 232 bytes) leaves 304 bytes for extensions.
pub const MAX_LEN: usize = 536;

/// Maximum length of a version 1 line according to the specification, CRLF included.
const V1_MAX_LEN: usize = 107;

const V2_SIGNATURE: &[u8; 12] = b"\r\n\r\n\0\r\nQUIT\n";

#[cfg(test)]
mod tests;
