//! `[drain]`.

use super::super::DurationValue;
use super::server::default;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// `[drain]`
#[derive(Debug, Clone, PartialEq, Deserialize, Serialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Drain {
    /// The time over which the closes of many sessions are spread. On shutdown all sessions end within this time.
    pub window: DurationValue,
    /// How long, after SIGTERM, /readyz reports not ready while connections are still accepted.
    pub accept_grace: DurationValue,
    /// The maximum number of closes per second. It lengthens the window, except on shutdown. 0: no limit.
    pub max_rate: u32,
    /// The close code for clients of a removed route or backend (RFC 6455 §7.4.1); on shutdown it is 1001.
    pub code: u16,
}

impl Default for Drain {
    fn default() -> Self {
        Drain {
            window: default("20s"),
            accept_grace: default("0s"),
            max_rate: 0,
            code: 1012,
        }
    }
}
