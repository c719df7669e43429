//! Certificates from a CA: Lockgate and Pebble, between real sockets.

mod client;
mod clock;
mod disk;
mod faults;
mod harness;
mod issue;
mod renewal;
pub(crate) mod rig;
mod stalled;
