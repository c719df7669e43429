//! Sessions that are understood: limits inside them, peers that do not read, Pings answered in a client's stead.

mod keepalive;
mod limits;
mod pings;
mod vanished;
