//! The path that a health check requests.

use super::text::{BadValue, text_value};
use std::{fmt, str::FromStr};

/// `pools.NAME.health.path`: a path, and a query if it has one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CheckPath(pub http::uri::PathAndQuery);

text_value!(
    CheckPath,
    "a path that begins with \"/\"",
    ["/", "/health", "/ws?check=1"]
);

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

#[cfg(test)]
mod tests {
    use super::*;

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
