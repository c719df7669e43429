//! Bytes that an attacker controls, as pure functions: no runtime, no clock, no log. One fuzz target per public file.

pub mod deflate;
pub mod forwarded;
pub mod frame;
pub mod handshake;
mod list;
pub mod proxy;
pub mod track;
