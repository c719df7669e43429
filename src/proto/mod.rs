//! Parsers of bytes that an attacker controls, as pure functions without I/O, clock or log. Each public module has a
//! fuzz target.

pub(crate) mod deflate;
pub(crate) mod forwarded;
pub(crate) mod frame;
pub(crate) mod frame_tracker;
pub(crate) mod handshake;
pub(crate) mod header_list;
pub(crate) mod proxy_header;
