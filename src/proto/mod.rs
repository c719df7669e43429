//! Parsers of bytes that an attacker controls, as pure functions without I/O, clock or log. Each public module has a
//! fuzz target.

pub mod cookie;
pub mod deflate;
pub mod forwarded;
pub mod frame;
pub mod frame_tracker;
pub mod handshake;
pub mod header_list;
pub mod path;
pub mod proxy_header;
pub mod query;
