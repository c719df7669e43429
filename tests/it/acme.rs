//! Certificates from a CA: Lockgate and Pebble, between real sockets.

mod client;
mod harness;
