//! Certificates from a CA: Lockgate and Pebble, between real sockets.

mod ca_timeouts;
mod client;
mod clock;
mod disk;
mod doctor;
mod faults;
pub(crate) mod fixture;
mod harness;
mod issue;
mod names;
mod renewal;
