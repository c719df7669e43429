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
    /// Where its servers listen: addresses, or tables with an `address` and what else is to be said of it.
    #[serde(deserialize_with = "backends")]
    #[schemars(with = "Vec<AddressOrTable>")]
    pub backends: Vec<Located<Backend>>,
    /// Who gets the next session or request: the backend with the fewest for its weight; each in its turn; the emptier of two taken by chance; or the one that `hash` leads to.
    #[serde(default)]
    pub balance: Balance,
    /// What "hash" goes by: "ip", "path", "header:x-user", "cookie:sid" or "query:room"; where a request lacks it, its client's address. A backend with more than 1.25 times its share is passed over. Only with `balance` = "hash".
    #[serde(default = "ip")]
    pub hash: HashKey,
    /// Whether a client comes back to the backend that it had, as long as that is there: by a signed cookie, or by the `sid` of Socket.IO.
    #[serde(default)]
    pub sticky: Sticky,
    /// How backends are asked whether they are well.
    #[serde(default)]
    pub health: Located<Health>,
    /// What sessions and requests tell of their backends.
    #[serde(default)]
    pub passive: Passive,
    /// What happens when all backends are down or ejected: "try" them all the same, or "refuse": 503 at once.
    #[serde(default)]
    pub all_down: AllDown,
    /// Another backend instead of one that fails before the 101, or answers 502, 503 or 504; plain requests that were not sent yet, or may be sent twice.
    #[serde(default)]
    pub retry: Retry,
    /// How many handshakes a backend has at a time; the rest wait in order.
    #[serde(default)]
    pub admission: Admission,
    /// How long a backend that is new or has come back gets only a growing part of what is new, from a tenth on; "0s": all at once.
    #[serde(default = "at_once")]
    pub slow_start: DurationValue,
    /// How fast sessions are closed that backends have above their share, once another is there or back, so that clients who connect again even out; "off": they stay. Only with `balance` = "least-sessions" and `sticky` = "off".
    #[serde(default)]
    pub rebalance: Rebalance,
}

/// `pools.NAME.balance`
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Balance {
    /// The fewest sessions and requests for its weight; among equals in turn.
    #[default]
    LeastSessions,
    /// In turn, by weight.
    RoundRobin,
    /// Two by chance and weight, of which the one with fewer for its weight.
    RandomTwo,
    /// Always the same for the same `hash`, as long as it is not overloaded.
    Hash,
}

/// `pools.NAME.sticky`
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Sticky {
    /// Every request goes where it is the turn of.
    #[default]
    Off,
    /// A cookie of Lockgate's says which: `Secure`, `HttpOnly`, `SameSite=Lax`, gone with the browser's session.
    Cookie,
    /// The backend whose polling answer gave the `sid` that a request carries.
    Socketio,
}

// === impl Pool ===

impl Pool {
    /// What stands in `to`, alone.
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
