//! Bound sockets: how they are created, the accept loop, and the steps of a connection before its
//! first request.

mod accept;
mod bind;
mod conn;
mod limits;

pub use accept::accept;
pub use bind::bind;
pub use conn::ConnectionHandler;
pub use limits::{ConnectionLimiter, ConnectionPermit};
