//! Value types with `FromStr` as the only constructor: a parsed value needs no second check.
//!
//! `Display` writes the form that parses to the same value.

pub(crate) mod acme;
pub(crate) mod address;
pub(crate) mod correction;
pub(crate) mod host_field;
pub(crate) mod network;
pub(crate) mod path_notation;
pub(crate) mod pattern;
pub(crate) mod selector;
pub(crate) mod units;

use std::fmt;

/// The reason why a string is not a valid value, and what to write instead.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BadValue {
    /// The error.
    pub message: String,
    /// How to fix it.
    pub hint: String,
}

// === impl BadValue ===

impl BadValue {
    pub(crate) fn new(message: impl Into<String>, hint: impl Into<String>) -> Self {
        BadValue {
            message: message.into(),
            hint: hint.into(),
        }
    }

    /// Encodes message and hint in one string, because a serde error is one string.
    pub(crate) fn into_error<E: serde::de::Error>(self) -> E {
        E::custom(format!("{}{SEPARATOR}{}", self.message, self.hint))
    }
}

impl fmt::Display for BadValue {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.message, self.hint)
    }
}

impl std::error::Error for BadValue {}

/// The separator of message and hint in a serde error.
pub(crate) const SEPARATOR: char = '\u{1f}';

/// Implements `Deserialize` by `FromStr` with the error message of the value type, and `JsonSchema` as a string.
macro_rules! text_value {
    ($name:ident, $expected:literal, [$($example:literal),+]) => {
        impl<'de> serde::Deserialize<'de> for $name {
            fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                struct Visitor;
                impl serde::de::Visitor<'_> for Visitor {
                    type Value = $name;

                    fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                        f.write_str($expected)
                    }

                    fn visit_str<E: serde::de::Error>(self, text: &str) -> Result<$name, E> {
                        text.parse().map_err($crate::config::values::BadValue::into_error)
                    }
                }
                deserializer.deserialize_str(Visitor)
            }
        }

        impl schemars::JsonSchema for $name {
            fn schema_name() -> std::borrow::Cow<'static, str> {
                stringify!($name).into()
            }

            fn json_schema(_: &mut schemars::SchemaGenerator) -> schemars::Schema {
                schemars::json_schema!({ "type": "string", "description": $expected, "examples": [$($example),+] })
            }
        }

        impl serde::Serialize for $name {
            fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                serializer.collect_str(self)
            }
        }
    };
}

pub(crate) use text_value;
