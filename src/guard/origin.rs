//! A route's `origins`: the web pages that may open a WebSocket (RFC 6455 §10.2). A browser sends cookies with a
//! handshake from any page, and the same-origin policy does not apply to it, so only this check excludes foreign pages.

use crate::{
    config::{HostPattern, OriginPattern},
    guard::{Denial, DenialReason},
};
use ::http::{HeaderMap, HeaderValue, Method, header::ORIGIN, uri};
use std::net::{IpAddr, Ipv6Addr};

/// The origins that may open a WebSocket. Ports are ignored.
#[derive(Debug, Clone)]
pub struct OriginGuard {
    patterns: Box<[OriginPattern]>,
    /// The patterns as texts, with which an Origin of another form than `scheme://host` is compared.
    literals: Box<[Box<str>]>,
}

/// A tuple origin (RFC 6454 §4), without its port, in lower case.
struct Origin {
    scheme: String,
    host: String,
}

// === impl OriginGuard ===

impl OriginGuard {
    /// Creates the guard from `routes.origins`.
    pub fn new(origins: &[OriginPattern]) -> OriginGuard {
        OriginGuard {
            patterns: origins.iter().map(comparable).collect(),
            literals: origins.iter().filter_map(literal).collect(),
        }
    }

    /// Checks a handshake. `host` is the request's, normalised (lower case, no port, no brackets).
    ///
    /// A handshake without Origin is admitted: it does not come from a browser (RFC 6455 §4.2.1), and other clients can
    /// send any Origin. Several are refused unless any origin is allowed, `null` and those of another form than
    /// `scheme://host` unless they are listed literally.
    pub fn check(&self, headers: &HeaderMap, host: &str) -> Result<(), Denial> {
        if self.patterns.contains(&OriginPattern::Any) {
            return Ok(());
        }
        let mut values = headers.get_all(ORIGIN).iter();
        let Some(value) = values.next() else {
            return Ok(());
        };
        if values.next().is_some() {
            return Err(denial(
                "This request has more than one Origin, but a browser sends one. A client, or a proxy in front of this \
                 server, adds it; only a route with \"*\" in its `origins` accepts such requests."
                    .to_owned(),
            ));
        }
        let origin = Origin::parse(value);
        if origin.is_none() && self.is_listed(value) {
            return Ok(());
        }
        if value == "null" {
            return Err(denial(
                "Origin null is not allowed by this route. It comes from a sandboxed frame or a local file; serve \
                 the page from a host and add that to `origins`, or add \"null\", which admits every such page."
                    .to_owned(),
            ));
        }
        let Some(origin) = origin else {
            return Err(denial(format!(
                "Origin {} is not an origin such as https://chat.example.com: this route allows it only if `origins` \
                 lists it literally.",
                printable(value)
            )));
        };
        if self
            .patterns
            .iter()
            .any(|pattern| origin.matches(pattern, host))
        {
            return Ok(());
        }
        Err(denial(format!(
            "Origin {0} is not allowed by this route: add it to `origins`, as in origins = [\"same-host\", \
             \"{1}://{2}\"].",
            printable(value),
            origin.scheme,
            bracketed(&origin.host)
        )))
    }

    /// Returns whether `origins` lists this Origin literally.
    fn is_listed(&self, value: &HeaderValue) -> bool {
        let mut literals = self.literals.iter();
        literals.any(|literal| literal.as_bytes() == value.as_bytes())
    }

    /// Checks a plain request with credentials that a browser sends automatically, whichever page causes the request.
    /// In addition to [`OriginGuard::check`], it refuses a request without Origin that a page of another origin has
    /// caused according to its fetch metadata: browsers send no Origin with the GET for a script, a picture or a frame.
    ///
    /// A GET that navigates a whole tab or window is admitted, as with `SameSite=Lax` (RFC 6265bis §5.6.7.1): otherwise
    /// links would not work, and the page that has the link cannot read the response. Clients without fetch metadata
    /// are no browsers, or too old to send it.
    pub fn check_ambient(
        &self,
        method: &Method,
        headers: &HeaderMap,
        host: &str,
    ) -> Result<(), Denial> {
        self.check(headers, host)?;
        let mut sites = headers.get_all(SEC_FETCH_SITE).iter();
        // "none" stands for the user: an address that was typed, a bookmark.
        if sites.all(|site| site == "same-origin" || site == "none")
            || headers.contains_key(ORIGIN)
            || self.patterns.contains(&OriginPattern::Any)
            || is_top_level_navigation(method, headers)
        {
            return Ok(());
        }
        Err(denial(
            "A page of another origin has caused this request (Sec-Fetch-Site), and the browser has sent a cookie with the \
             token but no Origin. Load it with fetch() or crossorigin, so that the browser sends the Origin, and add that \
             to `origins`; or add \"*\"."
                .to_owned(),
        ))
    }

    /// Returns whether an admitted handshake comes from a page of its own host that was loaded over `http://`, and only
    /// "same-host" admits it. Loopback hosts do not count: browsers treat them as secure.
    pub fn is_cleartext_same_host(&self, headers: &HeaderMap, host: &str) -> bool {
        let value = headers.get(ORIGIN);
        let Some(value) = value.filter(|value| value.as_bytes().starts_with(b"http://")) else {
            return false;
        };
        let is_other = |pattern: &&OriginPattern| **pattern != OriginPattern::SameHost;
        Origin::parse(value).is_some_and(|origin| {
            origin.host == host
                && !is_loopback(host)
                && !self
                    .patterns
                    .iter()
                    .filter(is_other)
                    .any(|pattern| origin.matches(pattern, host))
        })
    }
}

// === impl Origin ===

impl Origin {
    /// Parses exactly one `scheme://host[:port]` (RFC 6454 §6.1); `None` for anything else.
    fn parse(value: &HeaderValue) -> Option<Origin> {
        let (scheme, rest) = value.to_str().ok()?.split_once("://")?;
        let scheme: uri::Scheme = scheme.parse().ok()?;
        // The parser above accepts an empty scheme.
        if !scheme
            .as_str()
            .starts_with(|first: char| first.is_ascii_alphabetic())
        {
            return None;
        }
        let authority: uri::Authority = rest.parse().ok()?;
        if authority.as_str().contains('@') {
            return None;
        }
        let host = comparable_host(authority.host());
        (1..=MAX_HOST_LEN).contains(&host.len()).then(|| Origin {
            scheme: scheme.as_str().to_ascii_lowercase(),
            host,
        })
    }

    fn matches(&self, pattern: &OriginPattern, host: &str) -> bool {
        match pattern {
            OriginPattern::Any => true,
            OriginPattern::SameHost => self.host == host,
            OriginPattern::Literal(_) => false,
            OriginPattern::Host { scheme, host } => {
                scheme.as_deref().is_none_or(|scheme| scheme == self.scheme)
                    && match host {
                        HostPattern::Any => true,
                        HostPattern::Exact(host) => self.host == **host,
                        HostPattern::Under(suffix) => self
                            .host
                            .strip_suffix(&**suffix)
                            .is_some_and(|labels| labels.len() > 1 && labels.ends_with('.')),
                    }
            }
        }
    }
}

/// Returns whether a link, or a form with the method GET, opens a document in a tab or window.
fn is_top_level_navigation(method: &Method, headers: &HeaderMap) -> bool {
    let is_only = |name: &str, expected: &str| {
        let mut values = headers.get_all(name).iter();
        values.next().is_some_and(|value| value == expected) && values.next().is_none()
    };
    method == Method::GET
        && is_only("sec-fetch-mode", "navigate")
        && is_only("sec-fetch-dest", "document")
}

fn is_loopback(host: &str) -> bool {
    host == "localhost"
        || host.ends_with(".localhost")
        || host
            .parse::<IpAddr>()
            .is_ok_and(|address| address.is_loopback())
}

fn denial(text: String) -> Denial {
    Denial::forbidden(DenialReason::Origin, text)
}

/// Returns the text of a pattern that may also be an Origin of another form, such as `my-device`.
fn literal(pattern: &OriginPattern) -> Option<Box<str>> {
    match pattern {
        OriginPattern::Literal(text) => Some(text.clone()),
        OriginPattern::Host {
            scheme: None,
            host: HostPattern::Exact(host),
        } => Some(host.clone()),
        _ => None,
    }
}

fn comparable(pattern: &OriginPattern) -> OriginPattern {
    match pattern {
        OriginPattern::Host {
            scheme,
            host: HostPattern::Exact(host),
        } => OriginPattern::Host {
            scheme: scheme.clone(),
            host: HostPattern::Exact(comparable_host(host).into()),
        },
        other => other.clone(),
    }
}

/// Normalises a host like that of the request: lower case, no final dot, IPv6 in its shortest form without brackets.
fn comparable_host(host: &str) -> String {
    let bare = host
        .strip_prefix('[')
        .and_then(|host| host.strip_suffix(']'));
    match bare.map(str::parse::<Ipv6Addr>) {
        Some(Ok(address)) => address.to_string(),
        _ => host.strip_suffix('.').unwrap_or(host).to_ascii_lowercase(),
    }
}

fn bracketed(host: &str) -> String {
    if host.contains(':') {
        format!("[{host}]")
    } else {
        host.to_owned()
    }
}

/// Formats a client's value for our own text: printable and limited in length.
fn printable(value: &HeaderValue) -> String {
    value
        .as_bytes()
        .escape_ascii()
        .take(MAX_PRINTED_LEN)
        .map(char::from)
        .collect()
}

/// The relation between the origin that caused a request and the origin of its URL (W3C Fetch Metadata §2.3).
const SEC_FETCH_SITE: &str = "sec-fetch-site";

/// The longest possible name (RFC 1035 §2.3.4); a longer one is no origin.
const MAX_HOST_LEN: usize = 253;

/// Twice the length of a browser extension's origin, the longest known in practice.
const MAX_PRINTED_LEN: usize = 120;

#[cfg(test)]
mod tests;
