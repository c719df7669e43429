//! The part of a request that consistent hashing uses.

use super::text::{BadValue, text_value};
use std::{fmt, str::FromStr};

/// `pools.NAME.hash`: the part of a request that decides which backend it goes to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum HashKey {
    /// "ip": the client address, IPv6 by /64.
    Ip,
    /// "header:x-user": a header's value.
    Header(http::HeaderName),
    /// "cookie:sid": a cookie's value.
    Cookie(Box<str>),
    /// "query:room": a parameter of the query.
    Query(Box<str>),
    /// "path": the path.
    Path,
}

text_value!(
    HashKey,
    "\"ip\", \"path\", or \"header:\", \"cookie:\" or \"query:\" with a name",
    ["ip", "header:x-user", "cookie:sid", "query:room", "path"]
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

/// Returns whether `name` is a cookie name (RFC 6265 §4.1.1) that can be found in a Cookie header.
fn is_cookie(name: &str) -> bool {
    !name.is_empty()
        && name
            .bytes()
            .all(|byte| byte.is_ascii_graphic() && !b"=;,\"".contains(&byte))
}

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
}
