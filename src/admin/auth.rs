//! Who may use the admin API: the bearer token of a request, if one is configured (RFC 6750 §2.1), and no web page. A
//! page in a browser can send requests to this machine (CSRF), even under its own name if that resolves to 127.0.0.1
//! (DNS rebinding); only the headers reveal the origin.

use crate::config::Secret;
use aws_lc_rs::{
    constant_time::verify_slices_are_equal,
    digest::{SHA256, digest},
};
use hyper::{
    HeaderMap, StatusCode, Uri,
    header::{AUTHORIZATION, HOST, HeaderName, HeaderValue, ORIGIN},
    http::uri::Authority,
};
use std::net::IpAddr;

/// The Host header values that are accepted.
#[derive(Debug, Clone, Copy)]
pub(crate) enum HostCheck {
    /// Any value: a Unix socket has no name, and a scraper may use any name.
    Any,
    /// A loopback name or address, or the local address of the connection.
    Here(IpAddr),
}

/// The answer to a request that a web page may have sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct RefusedOrigin {
    pub(crate) status: StatusCode,
    /// One line that names the header.
    pub(crate) text: &'static str,
}

/// Returns whether `headers` carry `token`; an empty `token` accepts any.
/// The comparison's duration reveals neither the token nor its length.
pub(crate) fn has_token(headers: &HeaderMap, token: &Secret) -> bool {
    if token.expose().is_empty() {
        return true;
    }
    let mut all = headers.get_all(AUTHORIZATION).into_iter();
    let (Some(presented), None) = (all.next().and_then(bearer), all.next()) else {
        return false;
    };
    let (presented, expected) = (
        digest(&SHA256, presented),
        digest(&SHA256, token.expose().as_bytes()),
    );
    verify_slices_are_equal(presented.as_ref(), expected.as_ref()).is_ok()
}

/// Extracts the token; the scheme is case-insensitive (RFC 9110 §11.1).
fn bearer(value: &HeaderValue) -> Option<&[u8]> {
    let (scheme, token) = value.as_bytes().split_at_checked(SCHEME.len())?;
    scheme
        .eq_ignore_ascii_case(SCHEME)
        .then(|| token.trim_ascii())
}

/// Accepts requests that no web page can have sent; any other is refused.
pub(crate) fn check_origin(
    uri: &Uri,
    headers: &HeaderMap,
    names: HostCheck,
) -> Result<(), RefusedOrigin> {
    if let HostCheck::Here(local) = names {
        let mut hosts = headers.get_all(HOST).into_iter();
        let (Some(host), None) = (hosts.next(), hosts.next()) else {
            // RFC 9112 §3.2
            return Err(RefusedOrigin {
                status: StatusCode::BAD_REQUEST,
                text: "exactly one Host header is needed",
            });
        };
        // In absolute-form the target's authority takes precedence (RFC 9112 §3.2.2): both must be valid.
        let named = host.to_str().is_ok_and(|host| is_own_host(host, local));
        if !named
            || uri
                .authority()
                .is_some_and(|a| !is_own_host(a.as_str(), local))
        {
            return Err(RefusedOrigin {
                status: StatusCode::FORBIDDEN,
                text: "the Host header must be localhost, a loopback address, or the address that was connected to",
            });
        }
    }
    if headers.contains_key(ORIGIN) {
        return Err(RefusedOrigin {
            status: StatusCode::FORBIDDEN,
            text: "requests with an Origin header are refused: web pages have no access here",
        });
    }
    // "none": the user typed the address (https://www.w3.org/TR/fetch-metadata/).
    if headers
        .get_all(SEC_FETCH_SITE)
        .into_iter()
        .any(|site| site != "none")
    {
        return Err(RefusedOrigin {
            status: StatusCode::FORBIDDEN,
            text: "requests with a Sec-Fetch-Site header other than none are refused: web pages have no access here",
        });
    }
    Ok(())
}

fn is_own_host(host: &str, local: IpAddr) -> bool {
    let Ok(authority) = host.parse::<Authority>() else {
        return false;
    };
    if authority.as_str().contains('@') {
        return false;
    }
    let name = authority.host();
    let literal = name
        .strip_prefix('[')
        .and_then(|name| name.strip_suffix(']'))
        .unwrap_or(name);
    match literal.parse::<IpAddr>().map(|ip| ip.to_canonical()) {
        Ok(address) => address.is_loopback() || address == local,
        Err(_) => name.eq_ignore_ascii_case("localhost"),
    }
}

const SEC_FETCH_SITE: HeaderName = HeaderName::from_static("sec-fetch-site");

const SCHEME: &[u8] = b"Bearer ";
