//! Bytes per second: a number, or a size.

use super::{Size, text::BadValue};
use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Deserializer, Serialize, Serializer, de};
use std::{fmt, str::FromStr};

/// A number of bytes per second: 65536, "64KiB" and "64KiB/s" are equal; 0 mostly means no limit.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ByteRate(pub u64);

// === impl ByteRate ===

impl FromStr for ByteRate {
    type Err = BadValue;

    fn from_str(text: &str) -> Result<Self, BadValue> {
        // "/s" may be left out: the names of these keys end in `_per_second`.
        let size = text.strip_suffix("/s").unwrap_or(text).parse();
        size.map(|Size(bytes)| ByteRate(bytes)).map_err(|_| {
            BadValue::new(
                format!("`{text}` is not a number of bytes per second"),
                "write it as \"64KiB/s\", \"1MiB/s\" or \"1GiB/s\", at most \"1TiB/s\", or as a number without quotes",
            )
        })
    }
}

impl fmt::Display for ByteRate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/s", Size(self.0))
    }
}

impl<'de> Deserialize<'de> for ByteRate {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct ByteRateVisitor;

        impl de::Visitor<'_> for ByteRateVisitor {
            type Value = ByteRate;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(EXPECTED)
            }

            fn visit_u64<E: de::Error>(self, bytes: u64) -> Result<ByteRate, E> {
                Ok(ByteRate(bytes))
            }

            /// TOML integers are signed.
            fn visit_i64<E: de::Error>(self, bytes: i64) -> Result<ByteRate, E> {
                let unsigned = u64::try_from(bytes).map(ByteRate);
                unsigned.map_err(|_| E::invalid_value(de::Unexpected::Signed(bytes), &self))
            }

            fn visit_str<E: de::Error>(self, text: &str) -> Result<ByteRate, E> {
                text.parse().map_err(BadValue::into_error)
            }
        }

        deserializer.deserialize_any(ByteRateVisitor)
    }
}

impl JsonSchema for ByteRate {
    fn schema_name() -> std::borrow::Cow<'static, str> {
        "ByteRate".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({
            "type": ["string", "integer"], "minimum": 0, "description": EXPECTED, "examples": ["1MiB/s", "64KiB", 65536],
        })
    }
}

impl Serialize for ByteRate {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self.0 {
            0 => serializer.serialize_u64(0),
            _ => serializer.collect_str(self),
        }
    }
}

const EXPECTED: &str = "bytes per second, such as \"1MiB/s\", or a plain number";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn byte_rate_is_a_number_or_a_size() {
        let read = |value: serde_json::Value| serde_json::from_value::<ByteRate>(value);
        for (written, bytes) in [
            (serde_json::json!(0), 0),
            (65536.into(), 65536),
            ("64KiB".into(), 65536),
            ("64KiB/s".into(), 65536),
            ("1MB/s".into(), 1_000_000),
            ("0B".into(), 0),
        ] {
            let rate = read(written.clone()).unwrap();
            assert_eq!(rate, ByteRate(bytes), "{written}");
            let again = serde_json::to_value(rate).unwrap();
            assert_eq!(read(again).unwrap(), rate, "{written}");
        }
        for bad in [
            "", "/s", "64", "64KiB/m", "64KiB/", "64 KiB", "-1B", "1.5MiB", "2TiB/s",
        ] {
            assert!(bad.parse::<ByteRate>().is_err(), "{bad}");
        }
        for bad in [serde_json::json!(-1), 1.5.into(), true.into()] {
            assert!(read(bad.clone()).is_err(), "{bad}");
        }
    }
}
