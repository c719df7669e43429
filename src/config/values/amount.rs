//! Durations, sizes and rates.

use super::text::{BadValue, text_value};
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
