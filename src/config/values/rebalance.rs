//! `rebalance`: whether and how fast excess sessions are closed.

use super::{
    Rate,
    text::{BadValue, text_value},
};
use std::{fmt, str::FromStr, time::Duration};

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
    Rebalance,
    "\"off\", or a rate, such as \"50/s\"",
    ["50/s", "100/m", "off"]
);

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

#[cfg(test)]
mod tests {
    use super::*;

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
}
