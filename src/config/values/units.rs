//! Durations, sizes and rates, and the `rebalance` rate.

use crate::config::values::{BadValue, text_value};
use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Deserializer, Serialize, Serializer, de};
use std::{fmt, str::FromStr, time::Duration};

/// A duration: "500ms", "30s", "2m", "1h".
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct DurationValue(pub Duration);

/// A number of bytes: "100B", "64KiB", "16MiB", "1GiB", and in powers of ten "1KB", "1MB", "1GB".
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Size(pub u64);

/// A number of events per second, minute or hour: "10/s", "100/m", "1000/h".
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Rate {
    /// The number of events.
    pub count: u32,
    /// The unit of time.
    pub per: Duration,
}

/// A number of bytes per second: 65536, "64KiB" and "64KiB/s" are equal; 0 mostly means no limit.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ByteRate(pub u64);

/// "off", or the maximum rate of closed sessions: "50/s".
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Rebalance {
    /// Sessions stay on their backends.
    #[default]
    Off,
    /// The maximum rate of closes.
    At(Rate),
}

text_value!(
    DurationValue,
    "a length of time, such as \"30s\"",
    ["30s", "500ms", "2m", "1h"]
);

text_value!(
    Size,
    "a number of bytes, such as \"16MiB\"",
    ["16MiB", "64KiB", "100B"]
);

text_value!(
    Rebalance,
    "\"off\", or a rate, such as \"50/s\"",
    ["50/s", "100/m", "off"]
);

text_value!(Rate, "a rate, such as \"10/s\"", ["10/s", "100/m"]);

// === impl DurationValue ===

impl FromStr for DurationValue {
    type Err = BadValue;

    fn from_str(text: &str) -> Result<Self, BadValue> {
        let bad = || {
            BadValue::new(
                format!("`{text}` is not a length of time"),
                "write it as \"500ms\", \"30s\", \"2m\" or \"1h\"",
            )
        };
        let (number, unit) = split(text).ok_or_else(bad)?;
        let millis = match unit {
            "ms" => 1,
            "s" => 1000,
            "m" => 60 * 1000,
            "h" => 60 * 60 * 1000,
            "d" => 24 * 60 * 60 * 1000,
            _ => return Err(bad()),
        };
        let millis = number
            .checked_mul(millis)
            .filter(|millis| *millis <= MAX_MILLIS);
        let millis = millis
            .ok_or_else(|| BadValue::new(format!("`{text}` is too long"), "at most \"365d\""))?;
        Ok(DurationValue(Duration::from_millis(millis)))
    }
}

impl fmt::Display for DurationValue {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let millis = self.0.as_millis();
        // "60s" rather than "1m": this form is common in configurations and in the documentation.
        for (unit, length, least) in [
            ("h", 60 * 60 * 1000, 1),
            ("m", 60 * 1000, 2),
            ("s", 1000, 1),
        ] {
            if millis >= length * least && millis.is_multiple_of(length) {
                return write!(f, "{}{unit}", millis / length);
            }
        }
        match millis {
            0 => f.write_str("0s"),
            millis => write!(f, "{millis}ms"),
        }
    }
}

// === impl Size ===

impl FromStr for Size {
    type Err = BadValue;

    fn from_str(text: &str) -> Result<Self, BadValue> {
        let bad = || {
            BadValue::new(
                format!("`{text}` is not a number of bytes"),
                "write it as \"100B\", \"64KiB\", \"16MiB\" or \"1GiB\"",
            )
        };
        let (number, unit) = split(text).ok_or_else(bad)?;
        let unit = UNITS
            .iter()
            .find(|(name, _)| *name == unit)
            .ok_or_else(bad)?
            .1;
        let bytes = number.checked_mul(unit).filter(|bytes| *bytes <= MAX_BYTES);
        bytes
            .map(Size)
            .ok_or_else(|| BadValue::new(format!("`{text}` is too large"), "at most \"1TiB\""))
    }
}

impl fmt::Display for Size {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let whole = |(_, unit): &&(&str, u64)| self.0 > 0 && self.0.is_multiple_of(*unit);
        let (name, unit) = UNITS.iter().find(whole).unwrap_or(&("B", 1));
        write!(f, "{}{name}", self.0 / unit)
    }
}

// === impl Rate ===

impl FromStr for Rate {
    type Err = BadValue;

    fn from_str(text: &str) -> Result<Self, BadValue> {
        let bad = || {
            BadValue::new(
                format!("`{text}` is not a rate"),
                "write it as \"10/s\", \"100/m\" or \"1000/h\"",
            )
        };
        let (count, unit) = text.split_once('/').ok_or_else(bad)?;
        let seconds = match unit {
            "s" => 1,
            "m" => 60,
            "h" => 60 * 60,
            _ => return Err(bad()),
        };
        let count = number(count)
            .and_then(|count| u32::try_from(count).ok())
            .ok_or_else(bad)?;
        Ok(Rate {
            count,
            per: Duration::from_secs(seconds),
        })
    }
}

impl fmt::Display for Rate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let unit = match self.per.as_secs() {
            1 => "s",
            60 => "m",
            _ => "h",
        };
        write!(f, "{}/{unit}", self.count)
    }
}

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

// === impl Rebalance ===

impl Rebalance {
    /// Returns the time between two closes; `None` if rebalancing is off.
    pub fn gap(self) -> Option<Duration> {
        match self {
            Rebalance::Off => None,
            Rebalance::At(rate) => Some(rate.per / rate.count.max(1)),
        }
    }
}

impl FromStr for Rebalance {
    type Err = BadValue;

    fn from_str(text: &str) -> Result<Self, BadValue> {
        if text == "off" {
            return Ok(Rebalance::Off);
        }
        match text.parse::<Rate>() {
            Ok(rate) if rate.count > 0 => Ok(Rebalance::At(rate)),
            Ok(_) => Err(BadValue::new(
                format!("`{text}` would never close a session"),
                "write \"off\", or a rate such as \"50/s\"",
            )),
            Err(_) => Err(BadValue::new(
                format!("`{text}` is not a rate"),
                "write it as \"50/s\", \"100/m\" or \"1000/h\", or \"off\"",
            )),
        }
    }
}

impl fmt::Display for Rebalance {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Rebalance::Off => f.write_str("off"),
            Rebalance::At(rate) => rate.fmt(f),
        }
    }
}

/// Splits "30s" into 30 and "s".
fn split(text: &str) -> Option<(u64, &str)> {
    let digits = text.find(|c: char| !c.is_ascii_digit() && c != '_')?;
    let (count, unit) = text.split_at(digits);
    Some((number(count)?, unit))
}

/// Parses an integer as in TOML: digits with single underscores between them.
fn number(text: &str) -> Option<u64> {
    if text.starts_with('_') || text.ends_with('_') || text.contains("__") || text.starts_with('+')
    {
        return None;
    }
    text.replace('_', "").parse().ok()
}

/// The units, largest first, so that `Display` finds the shortest form.
const UNITS: [(&str, u64); 9] = [
    ("TiB", 1 << 40),
    ("GiB", 1 << 30),
    ("MiB", 1 << 20),
    ("KiB", 1 << 10),
    ("TB", 1_000_000_000_000),
    ("GB", 1_000_000_000),
    ("MB", 1_000_000),
    ("KB", 1_000),
    ("B", 1),
];

/// 365 days in milliseconds: sums of such durations cannot overflow the clock.
const MAX_MILLIS: u64 = 365 * 24 * 60 * 60 * 1000;

/// 1 TiB.
const MAX_BYTES: u64 = 1 << 40;

const EXPECTED: &str = "bytes per second, such as \"1MiB/s\", or a plain number";

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn durations_parse_and_print() {
        for (text, millis) in [
            ("500ms", 500),
            ("30s", 30_000),
            ("2m", 120_000),
            ("1h", 3_600_000),
            ("0s", 0),
            ("1_000s", 1_000_000),
        ] {
            assert_eq!(
                text.parse::<DurationValue>().unwrap().0.as_millis(),
                millis,
                "{text}"
            );
        }
        for bad in [
            "",
            "s",
            "30",
            "30 s",
            "-1s",
            "1.5s",
            "30sec",
            "+3s",
            "_1s",
            "366d",
            "99999999999999999999s",
        ] {
            assert!(bad.parse::<DurationValue>().is_err(), "{bad}");
        }
    }

    #[test]
    fn sizes_parse_and_print() {
        for (text, bytes) in [
            ("100B", 100),
            ("64KiB", 65536),
            ("16MiB", 16 << 20),
            ("1MB", 1_000_000),
            ("0B", 0),
        ] {
            assert_eq!(text.parse::<Size>().unwrap().0, bytes, "{text}");
        }
        for bad in [
            "",
            "16",
            "16 MiB",
            "16mib",
            "16M",
            "1.5MiB",
            "-1B",
            "2TiB",
            "99999999999999999999B",
        ] {
            assert!(bad.parse::<Size>().is_err(), "{bad}");
        }
    }

    #[test]
    fn rates_parse_and_print() {
        assert_eq!(
            "10/s".parse::<Rate>().unwrap(),
            Rate {
                count: 10,
                per: Duration::from_secs(1)
            }
        );
        assert_eq!(
            "100/m".parse::<Rate>().unwrap().per,
            Duration::from_secs(60)
        );
        for bad in [
            "",
            "10",
            "/s",
            "10/",
            "10/d",
            "-1/s",
            "1.5/s",
            "5000000000/s",
        ] {
            assert!(bad.parse::<Rate>().is_err(), "{bad}");
        }
    }

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

    #[test]
    fn rebalance_is_off_or_a_rate() {
        for (text, gap) in [("off", None), ("50/s", Some(20)), ("6/m", Some(10_000))] {
            let value: Rebalance = text.parse().unwrap();
            assert_eq!(value.gap(), gap.map(Duration::from_millis), "{text}");
            assert_eq!(value.to_string(), text);
        }
        for bad in ["", "on", "0/s", "0/h", "50", "Off"] {
            assert!(bad.parse::<Rebalance>().is_err(), "{bad}");
        }
    }

    proptest! {
        #[test]
        fn displayed_values_parse_to_the_same_value(millis in 0..=MAX_MILLIS, bytes in 0..=MAX_BYTES) {
            let period = DurationValue(Duration::from_millis(millis));
            prop_assert_eq!(period.to_string().parse::<DurationValue>().unwrap(), period);
            let size = Size(bytes);
            prop_assert_eq!(size.to_string().parse::<Size>().unwrap(), size);
        }
    }
}
