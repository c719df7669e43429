//! `[pools.NAME]`.

mod admission;
mod backend;

pub use admission::{Admission, Retry};
pub use backend::{Backend, BackendProxyProtocol, BackendTls, OnVanish};

use backend::{AddressOrTable, backends};

use super::{
    super::{BackendSource, DurationValue, HashKey, Located, Rebalance},
    health::{AllDown, Health, Passive},
    server::default,
};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// `[pools.NAME]`
#[derive(Debug, Clone, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Pool {
    /// The backends: addresses, or tables with an `address` and further settings.
    #[serde(deserialize_with = "backends")]
    #[schemars(with = "Vec<AddressOrTable>")]
    pub backends: Vec<Located<Backend>>,
    /// Which backend gets the next session or request: the one with the fewest for its weight; each in turn; the less loaded of two chosen at random; or the one that `hash` selects.
    #[serde(default)]
    pub balance: Balance,
    /// The part of the request that is hashed: "ip", "path", "header:x-user", "cookie:sid" or "query:room"; if a request lacks it, the client's address. A backend with more than 1.25 times its share is skipped. Only with `balance` = "hash".
    #[serde(default = "ip")]
    pub hash: HashKey,
    /// Whether a client returns to the backend that it used before, as long as that backend is available: by a signed cookie, or by the `sid` of Socket.IO.
    #[serde(default)]
    pub sticky: Sticky,
    /// How backends are health-checked.
    #[serde(default)]
    pub health: Located<Health>,
    /// Ejection of backends whose sessions and requests fail.
    #[serde(default)]
    pub passive: Passive,
    /// What happens when all backends are down or ejected: "try" them all the same, or "refuse" with 503 at once.
    #[serde(default)]
    pub all_down: AllDown,
    /// Retries on another backend if one fails before the 101 or answers 502, 503 or 504; plain requests only if they were not sent yet or may be sent twice.
    #[serde(default)]
    pub retry: Retry,
    /// How many handshakes a backend gets at a time; the others wait in order.
    #[serde(default)]
    pub admission: Admission,
    /// How long a backend that is new or has recovered receives only a growing share of new sessions and requests, starting at a tenth; "0s": its full share at once.
    #[serde(default = "at_once")]
    pub slow_start: DurationValue,
    /// How fast sessions above a backend's share are closed after another backend is added or has recovered, so that reconnecting clients spread over all backends; "off": sessions stay. Only with `balance` = "least-sessions" and `sticky` = "off".
    #[serde(default)]
    pub rebalance: Rebalance,
}

/// `pools.NAME.balance`
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Balance {
    /// The backend with the fewest sessions and requests for its weight; equal ones in turn.
    #[default]
    LeastSessions,
    /// Each backend in turn, by weight.
    RoundRobin,
    /// Of two backends chosen at random by weight, the one with fewer sessions and requests for its weight.
    RandomTwo,
    /// Always the same backend for the same `hash`, as long as it is not overloaded.
    Hash,
}

/// `pools.NAME.sticky`
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Sticky {
    /// Every request is balanced on its own.
    #[default]
    Off,
    /// A cookie that Lockgate sets names the backend: `Secure`, `HttpOnly`, `SameSite=Lax`, deleted when the browser's session ends.
    Cookie,
    /// The backend whose polling response issued the `sid` that a request carries.
    Socketio,
}

// === impl Pool ===

impl Pool {
    /// Returns the pool of a route with `to`: one backend with default settings.
    pub fn of(address: &Located<BackendSource>) -> Self {
        let alone = Located {
            value: Backend::at(address.value.clone()),
            at: address.at,
        };
        Pool {
            backends: vec![alone],
            balance: Balance::default(),
            hash: ip(),
            sticky: Sticky::default(),
            health: Located::default(),
            passive: Passive::default(),
            all_down: AllDown::default(),
            retry: Retry::default(),
            admission: Admission::default(),
            slow_start: at_once(),
            rebalance: Rebalance::default(),
        }
    }
}

fn at_once() -> DurationValue {
    default("0s")
}

fn ip() -> HashKey {
    default("ip")
}
