//! Background tasks of the server.

pub(crate) mod dns;
pub(crate) mod files;
pub(crate) mod health;
pub(crate) mod rebalance;
