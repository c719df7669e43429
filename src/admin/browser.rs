//! Refuses requests from web pages. A page in a browser can send requests to this machine (CSRF), even under its own
//! name if that resolves to 127.0.0.1 (DNS rebinding); only the headers reveal the origin.

use hyper::{
    HeaderMap, StatusCode, Uri,
    header::{HOST, HeaderName, ORIGIN},
    http::uri::Authority,
};
use std::net::IpAddr;

/// The Host header values that are accepted.
#[derive(Debug, Clone, Copy)]
pub(super) enum HostCheck {
    /// Any value: a Unix socket has no name, and a scraper may use any name.
    Any,
    /// A loopback name or address, or the local address of the connection.
    Here(IpAddr),
}

/// Accepts requests that no web page can have sent; otherwise returns the status and a line that names the header.
pub(super) fn check_origin(
    uri: &Uri,
    headers: &HeaderMap,
    names: HostCheck,
) -> Result<(), (StatusCode, &'static str)> {
    if let HostCheck::Here(local) = names {
        let mut hosts = headers.get_all(HOST).into_iter();
        let (Some(host), None) = (hosts.next(), hosts.next()) else {
            // RFC 9112 §3.2
            return Err((StatusCode::BAD_REQUEST, "exactly one Host header is needed"));
        };
        // In absolute-form the target's authority takes precedence (RFC 9112 §3.2.2): both must be valid.
        let named = host.to_str().is_ok_and(|host| is_own_host(host, local));
        if !named
            || uri
                .authority()
                .is_some_and(|a| !is_own_host(a.as_str(), local))
        {
            return Err((
                StatusCode::FORBIDDEN,
                "the Host header must be localhost, a loopback address, or the address that was connected to",
            ));
        }
    }
    if headers.contains_key(ORIGIN) {
        return Err((
            StatusCode::FORBIDDEN,
            "requests with an Origin header are refused: web pages have no access here",
        ));
    }
    // "none": the user typed the address (https://www.w3.org/TR/fetch-metadata/).
    if headers
        .get_all(SEC_FETCH_SITE)
        .into_iter()
        .any(|site| site != "none")
    {
        return Err((
            StatusCode::FORBIDDEN,
            "requests with a Sec-Fetch-Site header other than none are refused: web pages have no access here",
        ));
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
