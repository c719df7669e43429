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
    /// How backends are asked whether they are well: "websocket", "http", "tcp", or "off". Without it there is nothing that the other keys could say.
    pub check: Check,
    /// What "websocket" and "http" ask for.
    pub path: CheckPath,
    /// From one check to the next, more or less a tenth of it by chance.
    pub interval: DurationValue,
    /// For one check, from the dial to the answer.
    pub timeout: DurationValue,
    /// So many checks in a row that went well bring a backend back.
    pub rise: u32,
    /// So many in a row that failed take it out; the first of all does so alone.
    pub fall: u32,
    /// What becomes of the sessions of a backend that is taken out: "keep", or "drain", which closes them as `[drain]` says.
    pub on_down: OnDown,
}

/// `pools.NAME.health.check`
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Check {
    /// Nobody is asked.
    #[default]
    Off,
    /// A handshake that must be answered with a right 101, then a Close. Servers take it for a client that came and left.
    Websocket,
    /// A GET that must be answered with 2xx or 3xx.
    Http,
    /// A connection, and no more: it shows that somebody listens.
    Tcp,
}

/// `pools.NAME.health.on_down`
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum OnDown {
    /// They stay for as long as they live.
    #[default]
    Keep,
    /// They are closed one by one.
    Drain,
}

/// `pools.NAME.passive`
#[derive(Debug, Clone, Copy, PartialEq, Deserialize, Serialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Passive {
    /// So many dials and handshakes that failed, and none that went well between them, take a backend out; up to 1000. 0: never.
    pub fails: u32,
    /// How close together they must be.
    pub within: DurationValue,
    /// How long it is out.
    pub eject: DurationValue,
}

/// `pools.NAME.all_down`
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum AllDown {
    /// All are tried: better a try than none.
    #[default]
    Try,
    /// 503 at once.
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
