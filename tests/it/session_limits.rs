//! Limits of sessions, peers that do not read, Pings, and Pings answered on behalf of a client.

mod hang_up;
mod keepalive;
mod limits;
mod pings;
mod vanished;
