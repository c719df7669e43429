//! Bound sockets: how they are made, an accept loop that cannot die, and what a connection goes through before its
//! first request.

mod accept;
mod bind;
mod conn;
mod limits;

pub use accept::accept;
pub use bind::bind;
pub use conn::ConnectionHandler;
pub use limits::{ConnectionLimiter, ConnectionPermit};
