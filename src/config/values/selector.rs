//! Parts of a request: what consistent hashing uses, where a token may be and to which header it is moved, and the path
//! of a health check.

use crate::config::values::{BadValue, text_value};
use http::HeaderName;
use std::{fmt, str::FromStr};

/// `pools.NAME.hash`: the part of a request that decides which backend it goes to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum HashKey {
    /// "ip": the client address, IPv6 by /64.
    Ip,
    /// "header:x-user": a header's value.
    Header(HeaderName),
    /// "cookie:sid": a cookie's value.
    Cookie(Box<str>),
    /// "query:room": a parameter of the query.
    Query(Box<str>),
    /// "path": the path.
    Path,
}

/// A part of a request that may hold a token.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum TokenSource {
    /// "subprotocol:bearer": offered as `bearer, TOKEN` or as `bearer.TOKEN`.
    Subprotocol(Box<str>),
    /// "query:token": a parameter of the query.
    Query(Box<str>),
    /// "cookie:session": a cookie's value.
    Cookie(Box<str>),
}

/// The header in which the backend gets the token.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TokenHeader(pub HeaderName);

/// `pools.NAME.health.path`: a path, and a query if it has one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CheckPath(pub http::uri::PathAndQuery);

text_value!(
    HashKey,
    "\"ip\", \"path\", or \"header:\", \"cookie:\" or \"query:\" with a name",
    ["ip", "header:x-user", "cookie:sid", "query:room", "path"]
);

text_value!(
    TokenSource,
    "\"subprotocol:\", \"query:\" or \"cookie:\" with a name",
    ["subprotocol:bearer", "query:token", "cookie:session"]
);

text_value!(
    TokenHeader,
    "a header's name",
    ["authorization", "x-auth-token"]
);

text_value!(
    CheckPath,
    "a path that begins with \"/\"",
    ["/", "/health", "/ws?check=1"]
);

// === impl HashKey ===

impl FromStr for HashKey {
    type Err = BadValue;

    fn from_str(text: &str) -> Result<Self, BadValue> {
        let bad = |why: &str| {
            BadValue::new(
                format!("`{text}` is not a part of a request: {why}"),
                "write \"ip\", \"path\", \"header:x-user\", \"cookie:sid\" or \"query:room\"",
            )
        };
        let (kind, name) = match text.split_once(':') {
            Some((kind, name)) => (kind, Some(name)),
            None => (text, None),
        };
        match (kind, name) {
            ("ip", None) => Ok(HashKey::Ip),
            ("path", None) => Ok(HashKey::Path),
            ("header", Some(name)) => match name.parse() {
                Ok(name) => Ok(HashKey::Header(name)),
                Err(_) => Err(bad("that is not a header name")),
            },
            ("cookie", Some(name)) if is_cookie(name) => Ok(HashKey::Cookie(name.into())),
            ("cookie", Some(_)) => Err(bad("that is not a cookie name")),
            ("query", Some(name)) if !name.is_empty() => Ok(HashKey::Query(name.into())),
            ("header" | "cookie" | "query", _) => Err(bad("the name is missing")),
            _ => Err(bad("there is no such part")),
        }
    }
}

impl fmt::Display for HashKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            HashKey::Ip => f.write_str("ip"),
            HashKey::Header(name) => write!(f, "header:{name}"),
            HashKey::Cookie(name) => write!(f, "cookie:{name}"),
            HashKey::Query(name) => write!(f, "query:{name}"),
            HashKey::Path => f.write_str("path"),
        }
    }
}

// === impl TokenSource ===

impl FromStr for TokenSource {
    type Err = BadValue;

    fn from_str(text: &str) -> Result<Self, BadValue> {
        let bad = |why: &str| {
            BadValue::new(
                format!("`{text}` is not a place for a token: {why}"),
                "write \"subprotocol:bearer\", \"query:token\" or \"cookie:session\"",
            )
        };
        let (kind, name) = text.split_once(':').unwrap_or((text, ""));
        let place = match kind {
            "subprotocol" => TokenSource::Subprotocol,
            "query" => TokenSource::Query,
            "cookie" => TokenSource::Cookie,
            _ => return Err(bad("there is no such place")),
        };
        // Names of subprotocols and cookies are tokens (RFC 9110 §5.6.2).
        let is_name = name
            .bytes()
            .all(|b| b.is_ascii_alphanumeric() || b"!#$&'*+-.^_`|~".contains(&b));
        match name {
            "" => Err(bad("the name is missing")),
            _ if !is_name || kind == "query" && name.contains(['&', '+', '#']) => {
                Err(bad("the name has a character that it cannot have there"))
            }
            _ => Ok(place(name.into())),
        }
    }
}

impl fmt::Display for TokenSource {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            TokenSource::Subprotocol(name) => write!(f, "subprotocol:{name}"),
            TokenSource::Query(name) => write!(f, "query:{name}"),
            TokenSource::Cookie(name) => write!(f, "cookie:{name}"),
        }
    }
}

// === impl TokenHeader ===

impl FromStr for TokenHeader {
    type Err = BadValue;

    fn from_str(text: &str) -> Result<Self, BadValue> {
        let bad = |why: &str| {
            BadValue::new(
                format!("no token can be moved to `{text}`: {why}"),
                "leave it out for \"authorization\", or write a name such as \"x-auth-token\"",
            )
        };
        header_to_set(text).map(TokenHeader).map_err(bad)
    }
}

impl fmt::Display for TokenHeader {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.0.as_str())
    }
}

/// Parses the name of a header that Lockgate sets for backends. The error is the reason why it cannot set this one.
pub(crate) fn header_to_set(text: &str) -> Result<HeaderName, &'static str> {
    let name: HeaderName = text.parse().map_err(|_| "that is not a header name")?;
    let is_taken = TAKEN.contains(&name.as_str())
        || TAKEN_PREFIXES
            .iter()
            .any(|prefix| name.as_str().starts_with(prefix));
    if is_taken {
        return Err("that header has another meaning");
    }
    if text.contains('_') {
        // WSGI and CGI map both to the same variable.
        return Err("servers treat `_` like `-`");
    }
    Ok(name)
}

// === impl CheckPath ===

impl FromStr for CheckPath {
    type Err = BadValue;

    fn from_str(text: &str) -> Result<Self, BadValue> {
        let bad = |why: &str, hint: String| {
            Err(BadValue::new(
                format!("`{text}` is not a path: {why}"),
                hint,
            ))
        };
        if !text.starts_with('/') {
            let path = text.split_once("://").map_or(text, |(_, rest)| {
                rest.find('/').map_or("", |slash| &rest[slash + 1..])
            });
            return bad(
                "it does not begin with \"/\"",
                format!("write it as \"/{path}\""),
            );
        }
        match text.parse::<http::uri::PathAndQuery>() {
            Ok(path) if path.as_str() == text => Ok(CheckPath(path)),
            _ => bad(
                "it has characters that are invalid in a path",
                "write it as a request would, such as \"/health\"; others stand as %20 and the like".into(),
            ),
        }
    }
}

impl fmt::Display for CheckPath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// Returns whether `name` is a cookie name (RFC 6265 §4.1.1) that can be found in a Cookie header.
fn is_cookie(name: &str) -> bool {
    !name.is_empty()
        && name
            .bytes()
            .all(|byte| byte.is_ascii_graphic() && !b"=;,\"".contains(&byte))
}

/// Headers that frame or route a request, that are hop-by-hop, or that Lockgate sets itself.
const TAKEN: [&str; 31] = [
    "accept",
    "cache-control",
    "connection",
    "cookie",
    "daphne-root-path",
    "date",
    "expect",
    "forwarded",
    "host",
    "http2-settings",
    "keep-alive",
    "location",
    "origin",
    "path-info",
    "proxy",
    "range",
    "referer",
    "script-name",
    "set-cookie",
    "te",
    "trailer",
    "transfer-encoding",
    "upgrade",
    "via",
    "x-client-ip",
    "x-original-url",
    "x-real-ip",
    "x-rewrite-url",
    "x-scheme",
    "x-script-name",
    "x-url-scheme",
];

const TAKEN_PREFIXES: [&str; 6] = [
    "client-cert",
    "content-",
    "proxy-",
    "sec-",
    "x-forwarded-",
    "x-wsgi-",
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hash_keys_parse_and_print() {
        for good in ["ip", "path", "header:x-user", "cookie:sid", "query:room id"] {
            assert_eq!(good.parse::<HashKey>().unwrap().to_string(), good);
        }
        for bad in [
            "",
            "IP",
            "ip:4",
            "path:/",
            "header",
            "header:",
            "header:a b",
            "cookie:",
            "cookie:a=b",
            "query",
            "query:",
            "body:x",
        ] {
            assert!(bad.parse::<HashKey>().is_err(), "{bad}");
        }
    }

    #[test]
    fn token_sources_parse_and_print() {
        for good in [
            "subprotocol:bearer",
            "subprotocol:base64url.bearer.authorization.k8s.io",
            "query:access_token",
            "cookie:__Host-session",
        ] {
            assert_eq!(good.parse::<TokenSource>().unwrap().to_string(), good);
        }
        for bad in [
            "",
            "token",
            "query",
            "query:",
            "cookie:a=b",
            "cookie:a;b",
            "query:a&b",
            "query:a%20b",
            "subprotocol:a b",
            "subprotocol:a,b",
            "header:x-token",
            "Query:token",
        ] {
            let error = bad.parse::<TokenSource>().unwrap_err();
            assert!(error.hint.contains("query:token"), "{bad}: {error}");
        }
    }

    #[test]
    fn token_header_rejects_reserved_headers() {
        for good in ["authorization", "x-auth-token", "X-Api-Key"] {
            let header: TokenHeader = good.parse().unwrap();
            assert_eq!(header.to_string(), good.to_ascii_lowercase());
        }
        for bad in [
            "",
            "a b",
            "Cookie",
            "sec-websocket-key",
            "te",
            "x_token",
            "host",
        ] {
            assert!(bad.parse::<TokenHeader>().is_err(), "{bad}");
        }
    }

    #[test]
    fn check_path_is_origin_form() {
        for good in ["/", "/health", "/ws?check=1", "/a%20b"] {
            assert_eq!(good.parse::<CheckPath>().unwrap().to_string(), good);
        }
        for bad in ["", "health", "http://a/b", "/a b", "/a#b", "/a\r\nx: y"] {
            assert!(bad.parse::<CheckPath>().is_err(), "{bad}");
        }
        let hint = "ws://a:1/b/c".parse::<CheckPath>().unwrap_err().hint;
        assert!(hint.contains("\"/b/c\""), "{hint}");
    }
}
