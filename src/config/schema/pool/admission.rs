//! `admission` and `retry` of `[pools.NAME]`: concurrent handshakes, the admission queue and retries.

use super::super::{super::DurationValue, server::default};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// `pools.NAME.retry`
#[derive(Debug, Clone, Copy, PartialEq, Deserialize, Serialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Retry {
    /// How many further backends are tried; 0: none.
    pub times: u32,
    /// The time after the first choice of a backend in which retries may start.
    pub within: DurationValue,
}

/// `pools.NAME.admission`
#[derive(Debug, Clone, Copy, PartialEq, Deserialize, Serialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Admission {
    /// Concurrent handshakes per backend; a plain request counts until its body or its response begins, and at most for one second. 0: no limit.
    pub handshakes: u32,
    /// How many handshakes and requests may wait, those of one client address (IPv6: one /64) at most a tenth of it; 0: no queue.
    pub queue: u32,
    /// The longest wait in the queue; `session.handshake_timeout` runs at the same time.
    pub wait: DurationValue,
}

// === impl Retry ===

impl Default for Retry {
    fn default() -> Self {
        Retry {
            times: 2,
            within: default("5s"),
        }
    }
}

// === impl Admission ===

impl Default for Admission {
    fn default() -> Self {
        Admission {
            handshakes: 64,
            queue: 1000,
            wait: default("10s"),
        }
    }
}
