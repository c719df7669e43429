//! The client's address behind other proxies, and the forwarding headers sent to backends.
//!
//! A header counts only as far as the proxies that wrote it are trusted: each hop reports the address before it, so
//! the chain is read from the right and ends at the first untrusted address. Backends receive only that part of the
//! chain, so that the leftmost address, which many backends use, is the client's.

use crate::proto::{handshake::as_token, header_list};
use http::{
    HeaderMap,
    header::{FORWARDED, HeaderName},
};
use std::{
    fmt::Write,
    net::{IpAddr, SocketAddr},
};

/// Returns the client's address: `peer`, or the address that the trusted proxies in front of Lockgate report.
/// IPv4-mapped addresses are unmapped; an element that is not an address ends the chain.
pub fn client(headers: &HeaderMap, peer: IpAddr, trusted: impl Fn(IpAddr) -> bool) -> IpAddr {
    let chain = chain(headers, peer, trusted);
    chain.last().copied().unwrap_or(peer)
}

/// Returns the value of `X-Forwarded-For` for the backend: the client, the trusted proxies after it, and `peer` last.
pub fn x_forwarded_for(
    headers: &HeaderMap,
    peer: IpAddr,
    trusted: impl Fn(IpAddr) -> bool,
) -> String {
    let chain = chain(headers, peer, trusted);
    let mut hops = String::with_capacity(chain.len() * IPV4_HOP_LEN);
    for (at, hop) in chain.iter().rev().enumerate() {
        let separator = if at == 0 { "" } else { ", " };
        let _ = write!(hops, "{separator}{hop}");
    }
    hops
}

/// Returns one element of `Forwarded` (RFC 7239 §4) for `client`, which requested `host` over `proto`. A host that no
/// header can carry is omitted.
pub fn forwarded_element(client: IpAddr, host: &str, proto: &str) -> String {
    let mut element = String::with_capacity(4 * IPV4_HOP_LEN + host.len());
    let _ = match client.to_canonical() {
        // RFC 7239 §6: an IPv6 address is enclosed in brackets, and therefore quoted.
        IpAddr::V6(v6) => write!(element, "for=\"[{v6}]\""),
        IpAddr::V4(v4) => write!(element, "for={v4}"),
    };
    if host.bytes().all(|byte| (0x20..0x7F).contains(&byte)) {
        element.push_str(";host=");
        push_value(&mut element, host);
    }
    if let Some(proto) = as_token(proto.as_bytes()) {
        element.push_str(";proto=");
        element.push_str(proto);
    }
    element
}

/// Returns the scheme that the client used, as reported by the adjacent proxy if it is `trusted`: the last value of
/// `X-Forwarded-Proto`, or of `proto=` in `Forwarded`. One of `http`, `https`, `ws`, `wss`.
pub fn proto(headers: &HeaderMap, trusted: bool) -> Option<&'static str> {
    if !trusted {
        return None;
    }
    let reported = match plain_from_right(headers, X_FORWARDED_PROTO).next() {
        Some(last) => last.to_vec(),
        None => parameter(forwarded_from_right(headers).next()?, b"proto")?,
    };
    let schemes = ["http", "https", "ws", "wss"];
    schemes
        .into_iter()
        .find(|scheme| scheme.as_bytes().eq_ignore_ascii_case(&reported))
}

/// Returns `peer` and the addresses in front of it, nearest first, up to the first that is not trusted. Never empty.
fn chain(headers: &HeaderMap, peer: IpAddr, trusted: impl Fn(IpAddr) -> bool) -> Vec<IpAddr> {
    let mut chain = vec![peer.to_canonical()];
    let mut plain = plain_from_right(headers, X_FORWARDED_FOR).map(address);
    let mut elements = forwarded_from_right(headers).map(|e| address(&parameter(e, b"for")?));
    let hops: &mut dyn Iterator<Item = Option<IpAddr>> = match headers.get(X_FORWARDED_FOR) {
        Some(_) => &mut plain,
        None => &mut elements,
    };
    while chain.len() <= MAX_HOPS && chain.last().is_some_and(|last| trusted(*last)) {
        match hops.next() {
            Some(Some(hop)) => chain.push(hop),
            Some(None) | None => break,
        }
    }
    chain
}

/// Returns the elements of a list without quoted strings over all header lines, the last first.
fn plain_from_right(headers: &HeaderMap, name: HeaderName) -> impl Iterator<Item = &[u8]> {
    let lines = headers.get_all(name).iter().rev();
    lines
        .flat_map(|line| line.as_bytes().rsplit(|byte| *byte == b','))
        .map(<[u8]>::trim_ascii)
        .filter(|element| !element.is_empty())
}

/// Returns the elements of `Forwarded` over all header lines, the last first.
fn forwarded_from_right(headers: &HeaderMap) -> impl Iterator<Item = &[u8]> {
    let lines = headers.get_all(FORWARDED).iter().rev();
    lines
        .flat_map(|line| header_list::split_from_right(line.as_bytes(), b','))
        .filter(|element| !element.is_empty())
}

/// Returns the value of `name` in an element of `Forwarded` (RFC 7239 §4); `None` if it is absent or repeated.
fn parameter(element: &[u8], name: &[u8]) -> Option<Vec<u8>> {
    let mut values = header_list::split(element, b';').filter_map(|pair| {
        let at = pair.iter().position(|byte| *byte == b'=')?;
        let (key, value) = pair.split_at_checked(at)?;
        key.eq_ignore_ascii_case(name).then(|| value.get(1..))?
    });
    match (values.next(), values.next()) {
        (Some(value), None) => header_list::unquote(value),
        _ => None,
    }
}

/// Parses `192.0.2.1`, `192.0.2.1:80`, `2001:db8::1`, `[2001:db8::1]` or `[2001:db8::1]:80`.
fn address(node: &[u8]) -> Option<IpAddr> {
    let node = std::str::from_utf8(node).ok()?;
    let bare = node.strip_prefix('[').and_then(|n| n.strip_suffix(']'));
    let address = match node.parse::<SocketAddr>() {
        Ok(with_port) => with_port.ip(),
        Err(_) => match bare {
            Some(v6) => IpAddr::V6(v6.parse().ok()?),
            None => node.parse().ok()?,
        },
    };
    Some(address.to_canonical())
}

/// Appends a value: a token unchanged, any other value as a quoted string (RFC 7239 §4).
fn push_value(to: &mut String, value: &str) {
    if as_token(value.as_bytes()).is_some() {
        to.push_str(value);
        return;
    }
    to.push('"');
    for char in value.chars() {
        if matches!(char, '"' | '\\') {
            to.push('\\');
        }
        to.push(char);
    }
    to.push('"');
}

/// Length of an IPv4 address and its separator: initial capacity per hop.
const IPV4_HOP_LEN: usize = 17;

/// Maximum number of proxies in the chain, more than any real setup has; further addresses are ignored.
const MAX_HOPS: usize = 100;

const X_FORWARDED_FOR: HeaderName = HeaderName::from_static("x-forwarded-for");

const X_FORWARDED_PROTO: HeaderName = HeaderName::from_static("x-forwarded-proto");

#[cfg(test)]
mod tests;
