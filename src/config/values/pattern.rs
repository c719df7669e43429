//! Patterns of hosts, paths and origins.

use crate::{
    config::values::{BadValue, path_notation::ForeignPath, text_value},
    proto::path,
};
use percent_encoding::percent_decode_str;
use regex::{Regex, RegexBuilder};
use std::{fmt, net::IpAddr, str::FromStr};

/// "chat.example.com", "*.example.com" (any name below), "*" (any). Lower case; an IPv6 address without brackets.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum HostPattern {
    /// Any host.
    Any,
    /// All names below this suffix, which is stored without "*.".
    Under(Box<str>),
    /// Exactly this host.
    Exact(Box<str>),
}

/// "/ws" (exact), "/ws/*" (this and all below, by whole segments), "~ ^/room/[0-9]+$" (a regular expression).
#[derive(Debug, Clone)]
pub enum PathPattern {
    /// Exactly this path.
    Exact(Box<str>),
    /// The path and all paths below it; stored without "/*", so "" matches all paths.
    Prefix(Box<str>),
    /// A regular expression over the normalised path.
    Regex(Regex),
}

/// `same-host`, `*`, `https://example.com`, `example.com`, `*.example.com`; ports are ignored. Other texts are literal.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum OriginPattern {
    /// Pages whose host is the host of the request.
    SameHost,
    /// Any page.
    Any,
    /// Pages of this host.
    Host {
        /// The scheme that is required, if one was written.
        scheme: Option<Box<str>>,
        /// The host.
        host: HostPattern,
    },
    /// Exactly this Origin, which is not of the form `scheme://host`.
    Literal(Box<str>),
}

text_value!(
    HostPattern,
    "a host, such as \"chat.example.com\", \"*.example.com\" or \"*\"",
    ["chat.example.com", "*.example.com", "*"]
);

text_value!(
    PathPattern,
    "a path, such as \"/ws\", \"/ws/*\" or \"~ ^/room/[0-9]+$\"",
    ["/ws", "/ws/*", "~ ^/room/[0-9]+$"]
);

text_value!(
    OriginPattern,
    "an origin, such as \"same-host\", \"https://example.com\" or \"*\"",
    ["same-host", "https://example.com", "*"]
);

// === impl HostPattern ===

impl FromStr for HostPattern {
    type Err = BadValue;

    fn from_str(text: &str) -> Result<Self, BadValue> {
        let bad = |why: &str, hint: &str| {
            Err(BadValue::new(
                format!("`{text}` is not a host: {why}"),
                hint,
            ))
        };
        if text == "*" {
            return Ok(HostPattern::Any);
        }
        if let Some(inside) = text.strip_prefix('[') {
            return match inside.strip_suffix(']').map(str::parse::<IpAddr>) {
                Some(Ok(address @ IpAddr::V6(_))) => {
                    Ok(HostPattern::Exact(address.to_string().into()))
                }
                _ => bad(
                    "the text in brackets is not an IPv6 address",
                    "write it as \"[::1]\", without a port",
                ),
            };
        }
        if let Ok(address) = text.parse::<IpAddr>() {
            return Ok(HostPattern::Exact(address.to_string().into()));
        }
        let name = text.split_once("://").map_or(text, |(_, rest)| rest);
        let name = name.split(['/', ':']).next().unwrap_or_default();
        let name = if name.is_empty() {
            "chat.example.com"
        } else {
            name
        };
        if text.contains("://") || text.contains('/') {
            return bad(
                "it has a scheme or a path",
                &format!("write the name alone, \"{name}\"; paths go into `path`"),
            );
        }
        if text.contains(':') {
            return bad(
                "it has a port",
                &format!("write the name alone, \"{name}\": ports are for server.https"),
            );
        }
        let name = text.strip_suffix('.').unwrap_or(text).to_ascii_lowercase();
        let (under, labels) = match name.strip_prefix("*.") {
            Some(suffix) => (true, suffix),
            None => (false, &*name),
        };
        if labels.contains('*') {
            return bad(
                "`*` may only be its whole first label",
                "write it as \"*.example.com\" or \"*\"",
            );
        }
        if !labels.is_ascii() {
            return bad(
                "it is not ASCII",
                "write international names as browsers send them: xn--…",
            );
        }
        let label_is_good = |label: &str| {
            let letters = label
                .bytes()
                .all(|byte| byte.is_ascii_alphanumeric() || byte == b'-' || byte == b'_');
            !label.is_empty()
                && label.len() <= 63
                && letters
                && !label.starts_with('-')
                && !label.ends_with('-')
        };
        if labels.len() > 253 || !labels.split('.').all(label_is_good) {
            return bad(
                "it is not a valid DNS name",
                "write it as \"chat.example.com\"",
            );
        }
        Ok(if under {
            HostPattern::Under(labels.into())
        } else {
            HostPattern::Exact(labels.into())
        })
    }
}

impl fmt::Display for HostPattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            HostPattern::Any => f.write_str("*"),
            HostPattern::Under(suffix) => write!(f, "*.{suffix}"),
            HostPattern::Exact(host) if host.contains(':') => write!(f, "[{host}]"),
            HostPattern::Exact(host) => f.write_str(host),
        }
    }
}

// === impl PathPattern ===

impl PathPattern {
    /// Returns the pattern that was probably meant by a path in the notation of other software.
    pub(crate) fn foreign(text: &str) -> Option<ForeignPath> {
        let found = ForeignPath::translate(text)?;
        let is_pattern = found.fix.parse::<PathPattern>().is_ok();
        is_pattern.then_some(found)
    }
}

impl FromStr for PathPattern {
    type Err = BadValue;

    fn from_str(text: &str) -> Result<Self, BadValue> {
        if let Some(expression) = text.strip_prefix("~ ") {
            let built = RegexBuilder::new(expression).size_limit(REGEX_SIZE).build();
            return built.map(PathPattern::Regex).map_err(|error| {
                let why = error.to_string();
                let why = why
                    .lines()
                    .last()
                    .unwrap_or_default()
                    .trim_start_matches("error: ")
                    .to_owned();
                BadValue::new(
                    format!("`{expression}` is not a regular expression: {why}"),
                    "such as \"~ ^/room/[0-9]+$\"",
                )
            });
        }
        let foreign = PathPattern::foreign(text);
        if let Some(foreign) = foreign.filter(|foreign| !foreign.is_literal) {
            return Err(if text.starts_with('/') {
                BadValue::new(
                    format!(
                        "`{text}` matches no request: `{}` is not a pattern",
                        foreign.part
                    ),
                    foreign.hint(),
                )
            } else {
                BadValue::new(
                    format!("`{text}` is not a path"),
                    format!(
                        "{}: a path begins with \"/\", a regular expression with \"~ \"",
                        foreign.hint()
                    ),
                )
            });
        }
        if !text.starts_with('/') {
            return Err(BadValue::new(
                format!("`{text}` is not a path"),
                "a path begins with \"/\", a regular expression with \"~ \": write path = \"/ws/*\"",
            ));
        }
        let (bare, prefix) = match text.strip_suffix("/*") {
            Some(prefix) => (prefix, true),
            None => (text, false),
        };
        let odd = |c: char| c.is_control() || "*?#\\".contains(c);
        if bare.contains(odd) {
            return Err(BadValue::new(
                format!(
                    "`{text}` has a character that is invalid in a path, or a `*` that is not part of a final \"/*\""
                ),
                "write it as \"/ws\", \"/ws/*\" or \"~ ^/room/[0-9]+$\"; escape others as %XX",
            ));
        }
        if let Some(why) = matches_no_request(text) {
            return Err(BadValue::new(
                format!("`{text}` matches no request: {why}"),
                "write the path as servers see it after decoding: requests with another spelling match it too",
            ));
        }
        let decoded = percent_decode_str(bare).decode_utf8_lossy();
        if decoded
            .split('/')
            .any(|segment| matches!(segment, "." | ".."))
        {
            return Err(BadValue::new(
                format!("`{text}` has dot segments"),
                "write the path that is meant: requests are compared without them",
            ));
        }
        Ok(if prefix {
            PathPattern::Prefix(bare.into())
        } else {
            PathPattern::Exact(bare.into())
        })
    }
}

impl fmt::Display for PathPattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            PathPattern::Exact(path) => f.write_str(path),
            PathPattern::Prefix(prefix) => write!(f, "{prefix}/*"),
            PathPattern::Regex(regex) => write!(f, "~ {regex}"),
        }
    }
}

// === impl OriginPattern ===

impl FromStr for OriginPattern {
    type Err = BadValue;

    fn from_str(text: &str) -> Result<Self, BadValue> {
        match text {
            "same-host" => return Ok(OriginPattern::SameHost),
            "*" => return Ok(OriginPattern::Any),
            _ => {}
        }
        let bad = || {
            BadValue::new(
                format!("`{text}` is not an origin"),
                "write it as \"https://example.com\", \"*.example.com\", \"same-host\" or \"*\"",
            )
        };
        if text == "null" {
            return Ok(OriginPattern::Literal(text.into()));
        }
        let literal = || {
            is_literal(text)
                .then(|| OriginPattern::Literal(text.into()))
                .ok_or_else(bad)
        };
        let (scheme, host) = match text.split_once("://") {
            Some((scheme, host)) => (Some(scheme), host.strip_suffix('/').unwrap_or(host)),
            None => (None, text),
        };
        let known = |scheme: &str| {
            !scheme.is_empty()
                && scheme
                    .bytes()
                    .all(|byte| byte.is_ascii_alphanumeric() || b"+-.".contains(&byte))
        };
        if scheme.is_some_and(|scheme| !known(scheme)) {
            return literal();
        }
        // Browsers add the port to Origin; it is ignored here as in the comparison.
        let without_port = match host.rsplit_once(':') {
            Some((name, port))
                if port.parse::<u16>().is_ok() && (!name.contains(':') || name.ends_with(']')) =>
            {
                name
            }
            _ => host,
        };
        match without_port.parse() {
            Ok(host) => Ok(OriginPattern::Host {
                scheme: scheme.map(|scheme| scheme.to_ascii_lowercase().into()),
                host,
            }),
            Err(_) => literal(),
        }
    }
}

impl fmt::Display for OriginPattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            OriginPattern::SameHost => f.write_str("same-host"),
            OriginPattern::Any => f.write_str("*"),
            OriginPattern::Host {
                scheme: Some(scheme),
                host,
            } => write!(f, "{scheme}://{host}"),
            OriginPattern::Host { scheme: None, host } => host.fmt(f),
            OriginPattern::Literal(text) => f.write_str(text),
        }
    }
}

/// Returns whether a text that is no pattern can be an Origin that a client sends, and is not a misspelt pattern: a
/// page of the web has a scheme of the web, and its Origin has no path.
fn is_literal(text: &str) -> bool {
    let scheme = text.split_once(':').map_or("", |(scheme, _)| scheme);
    let is_of_web = ["http", "https", "ws", "wss"]
        .iter()
        .any(|web| scheme.eq_ignore_ascii_case(web));
    let is_sent = text.bytes().all(|byte| matches!(byte, b' '..=b'~')) && text.trim() == text;
    let is_misspelt = text.contains('*') || text.to_ascii_lowercase().starts_with("same");
    !text.is_empty() && is_sent && !is_of_web && !is_misspelt
}

/// Returns why requests are never compared with this path, if that is so.
fn matches_no_request(path: &str) -> Option<String> {
    if path.contains("//") {
        return Some("repeated slashes are merged before the comparison".to_owned());
    }
    path::comparable(path).err().map(|error| error.to_string())
}

/// The limit of a compiled expression in bytes: a hundred times the size that paths need.
const REGEX_SIZE: usize = 1 << 20;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn host_patterns_parse_and_print() {
        for (text, shown) in [
            ("Chat.Example.com.", "chat.example.com"),
            ("*.example.com", "*.example.com"),
            ("*", "*"),
            ("localhost", "localhost"),
            ("127.0.0.1", "127.0.0.1"),
            ("[::1]", "[::1]"),
            ("::1", "[::1]"),
            ("chat_1", "chat_1"),
            ("xn--bcher-kva.example", "xn--bcher-kva.example"),
        ] {
            let pattern: HostPattern = text.parse().unwrap();
            assert_eq!(pattern.to_string(), shown);
            assert_eq!(shown.parse::<HostPattern>().unwrap(), pattern);
        }
        for bad in [
            "",
            ".",
            "a..b",
            "a:443",
            "https://a",
            "a/b",
            "a b",
            "*a.b",
            "a.*.b",
            "**",
            "*.",
            "bücher.example",
            "-a.b",
            "[::1]:443",
            "[1.2.3.4]",
            "user@a",
        ] {
            assert!(bad.parse::<HostPattern>().is_err(), "{bad}");
        }
    }

    #[test]
    fn path_patterns_parse_and_print() {
        for text in [
            "/",
            "/ws",
            "/ws/*",
            "/*",
            "/a/b%20c",
            "/a/b c",
            "/café/*",
            "/%40me",
            "~ ^/room/[0-9]+$",
        ] {
            assert_eq!(text.parse::<PathPattern>().unwrap().to_string(), text);
        }
        assert!(matches!("/*".parse(), Ok(PathPattern::Prefix(prefix)) if prefix.is_empty()));
        for bad in [
            "",
            "ws",
            "*",
            "/ws*",
            "/a/*/b",
            "/a\tb",
            "/a?b",
            "/a#b",
            "/a/../b",
            "/a/%2e%2E/b",
            "~ (",
            "~^/",
            "/a\\b",
            "/a%2fb",
            "/a%5Cb/*",
            "/a%0d",
            "/a//b",
            "/a//*",
            "/a%4",
            "/a%zz",
        ] {
            assert!(bad.parse::<PathPattern>().is_err(), "{bad}");
        }
        assert!(
            format!("~ {}", "(a{1000}){1000}")
                .parse::<PathPattern>()
                .is_err()
        );
    }

    #[test]
    fn origin_patterns_parse_and_print() {
        for (text, shown) in [
            ("same-host", "same-host"),
            ("*", "*"),
            ("https://Example.com:8443", "https://example.com"),
            ("https://example.com/", "https://example.com"),
            ("*.example.com", "*.example.com"),
            ("http://localhost:3000", "http://localhost"),
            ("http://[::1]:3000", "http://[::1]"),
            ("capacitor://localhost", "capacitor://localhost"),
            ("file://", "file://"),
            ("null", "null"),
            ("app://-/index.html", "app://-/index.html"),
            ("Charger 12", "Charger 12"),
            ("urn:device:7", "urn:device:7"),
        ] {
            assert_eq!(text.parse::<OriginPattern>().unwrap().to_string(), shown);
        }
        for bad in [
            "",
            "https://",
            "https:/a",
            "https://a/b",
            "https://a b",
            "same_host!",
            "same host",
            "https//*",
            "*.a.*",
            " x",
            "bücher",
        ] {
            assert!(bad.parse::<OriginPattern>().is_err(), "{bad}");
        }
    }
}
