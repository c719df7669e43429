//! The value of a `Host` field.

use crate::config::values::BadValue;
use ::http::uri::Authority;
use serde::{
    Deserializer, Serialize, Serializer,
    de::{Error, SeqAccess, Visitor},
};
use std::{fmt, str::FromStr};

/// A host with an optional port, as a backend receives it in `Host`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HostField(Box<str>);

// === impl HostField ===

impl HostField {
    /// Returns the text of the field.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for HostField {
    type Err = BadValue;

    fn from_str(text: &str) -> Result<Self, BadValue> {
        let authority: Option<Authority> = text.parse().ok();
        let is_host = authority.is_some_and(|authority| {
            let port = authority.as_str().rsplit_once(':').map(|(_, port)| port);
            let has_port = port.is_some_and(|port| !port.ends_with(']'));
            let is_of_host = |byte: u8| byte.is_ascii_alphanumeric() || b"-_.:[]".contains(&byte);
            !authority.host().is_empty()
                && authority.as_str().bytes().all(is_of_host)
                && (!has_port || authority.port_u16().is_some_and(|port| port > 0))
        });
        if !is_host {
            return Err(BadValue::new(
                format!("`{text}` is not the value of a Host field"),
                "write a name or an address, with a port if it is not the default one: \"localhost\", \"app.internal:9222\"",
            ));
        }
        Ok(HostField(text.into()))
    }
}

impl fmt::Display for HostField {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// Deserializes an optional value; "": none.
pub(crate) fn optional<'de, D: Deserializer<'de>>(
    deserializer: D,
) -> Result<Option<HostField>, D::Error> {
    struct OptionalVisitor;

    impl<'de> Visitor<'de> for OptionalVisitor {
        type Value = Option<HostField>;

        fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.write_str("a host, such as \"localhost:9222\"")
        }

        fn visit_str<E: Error>(self, text: &str) -> Result<Self::Value, E> {
            match text {
                "" => Ok(None),
                text => text.parse().map(Some).map_err(BadValue::into_error),
            }
        }

        fn visit_seq<A: SeqAccess<'de>>(self, _: A) -> Result<Self::Value, A::Error> {
            Err(BadValue::new(
                "`host` is the Host that backends receive: a text, not a list",
                "did you mean `hosts`, the names that clients use?",
            )
            .into_error())
        }
    }

    deserializer.deserialize_str(OptionalVisitor)
}

impl Serialize for HostField {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hosts_with_and_without_a_port_parse() {
        for text in [
            "localhost",
            "a.test:9222",
            "127.0.0.1",
            "[::1]",
            "[::1]:80",
            "a_b",
        ] {
            assert_eq!(text.parse::<HostField>().unwrap().as_str(), text);
        }
        for text in [
            "",
            "a b",
            "http://a",
            "a/b",
            "u@a",
            ":80",
            "a:",
            "a:0",
            "a:99999",
            "a:x",
            "a,b",
            "a\r\nX: 1",
            "[::1",
        ] {
            assert!(text.parse::<HostField>().is_err(), "{text}");
        }
    }
}
