//! `[drain]`.

use super::super::DurationValue;
use super::server::default;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// `[drain]`
#[derive(Debug, Clone, PartialEq, Deserialize, Serialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Drain {
    /// Over how long the closes of many sessions are spread. At a stop all must be over by then.
    pub window: DurationValue,
    /// After SIGTERM: how long it is not ready, but still accepts.
    pub accept_grace: DurationValue,
    /// Closes in a second, at most: it lengthens the window, except at a stop. 0: no limit.
    pub max_rate: u32,
    /// What clients of a removed route or backend are told (RFC 6455 §7.4.1); at a stop it is 1001.
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
