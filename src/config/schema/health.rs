//! `health`, `passive` and `all_down` of `[pools.NAME]`.

use super::{
    super::{CheckPath, DurationValue},
    server::default,
};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// `pools.NAME.health`
#[derive(Debug, Clone, PartialEq, Deserialize, Serialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Health {
    /// How backends are health-checked: "websocket", "http", "tcp", or "off". Without a check the other keys have no effect.
    pub check: Check,
    /// The path that "websocket" and "http" request.
    pub path: CheckPath,
    /// The time from one check to the next, with a jitter of ± 10 %.
    pub interval: DurationValue,
    /// The time limit of one check, from the dial to the response.
    pub timeout: DurationValue,
    /// After this many successful checks in a row a backend that is down counts as up again.
    pub rise: u32,
    /// After this many failed checks in a row a backend is marked down; a failure of its very first check is enough alone.
    pub fall: u32,
    /// What happens to the sessions of a backend that is marked down: "keep", or "drain", which closes them as configured in `[drain]`.
    pub on_down: OnDown,
}

/// `pools.NAME.health.check`
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Check {
    /// No check is sent.
    #[default]
    Off,
    /// A handshake that must be answered with a valid 101, then a Close. The server sees a client that connects and disconnects.
    Websocket,
    /// A GET that must be answered with 2xx or 3xx.
    Http,
    /// Only a TCP connection: it shows that a process listens.
    Tcp,
}

/// `pools.NAME.health.on_down`
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum OnDown {
    /// Sessions stay open until they end.
    #[default]
    Keep,
    /// Sessions are closed one by one.
    Drain,
}

/// `pools.NAME.passive`
#[derive(Debug, Clone, Copy, PartialEq, Deserialize, Serialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Passive {
    /// After this many failed dials and handshakes, without a successful one between them, a backend is ejected; up to 1000. 0: never.
    pub fails: u32,
    /// The time within which the failures must occur.
    pub within: DurationValue,
    /// How long the backend stays ejected.
    pub eject: DurationValue,
}

/// `pools.NAME.all_down`
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum AllDown {
    /// All backends are tried all the same.
    #[default]
    Try,
    /// Clients get 503 at once.
    Refuse,
}

impl Default for Health {
    fn default() -> Self {
        Health {
            check: Check::default(),
            path: default("/"),
            interval: default("5s"),
            timeout: default("2s"),
            rise: 2,
            fall: 3,
            on_down: OnDown::default(),
        }
    }
}

impl Default for Passive {
    fn default() -> Self {
        Passive {
            fails: 5,
            within: default("10s"),
            eject: default("30s"),
        }
    }
}
