//! Bound sockets: how they are created, the accept loop, and the steps of a connection before its
//! first request.

pub(crate) mod accept;
pub(crate) mod connection;
pub(crate) mod limits;
