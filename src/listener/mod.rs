//! The accept loop of a listener, the connection limits, and the steps of a connection before its first request.
//! `net/listen.rs` creates the sockets, and `server/listeners.rs` holds them.

pub(crate) mod accept;
pub(crate) mod accept_rate;
pub(crate) mod connection;
pub(crate) mod limits;
