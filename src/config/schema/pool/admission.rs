//! `[pools.NAME]`: who may shake hands, who waits, and who is tried again.

use super::super::{super::DurationValue, server::default};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// `pools.NAME.retry`
#[derive(Debug, Clone, Copy, PartialEq, Deserialize, Serialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Retry {
    /// How many more backends are tried; 0: none.
    pub times: u32,
    /// Only so long after the first was chosen.
    pub within: DurationValue,
}

/// `pools.NAME.admission`
#[derive(Debug, Clone, Copy, PartialEq, Deserialize, Serialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Admission {
    /// Handshakes at a time per backend; a plain request counts until its body or its answer begins, and for a second at most. 0: no limit.
    pub handshakes: u32,
    /// How many may wait for a place, those of one client address (IPv6: of one /64) for a tenth of it; 0: nobody waits.
    pub queue: u32,
    /// How long one may wait; `session.handshake_timeout` runs too.
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
