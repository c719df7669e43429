//! Upstreams: pools of backends, load balancing, health, the admission queue and leases. Open `pool.rs` first: a
//! request acquires its lease there.

pub(crate) mod backend;
pub(crate) mod balance;
pub(crate) mod balance_key;
pub(crate) mod clients;
pub(crate) mod connect;
pub(crate) mod fair_share;
pub(crate) mod health;
pub(crate) mod lease;
pub(crate) mod member;
pub(crate) mod membership;
pub(crate) mod pool;
pub(crate) mod queue;
pub(crate) mod slow_start;
pub(crate) mod sticky;
pub(crate) mod unavailable;
