//! The real binary, on port 0, between real sockets; no test sleeps, every wait has a deadline.

mod harness;

mod acme;
mod back_pressure;
mod bench;
mod certificates;
mod config;
mod container;
mod deadlines;
mod demo;
mod descriptors;
mod ends;
mod examples;
mod explain;
mod floods;
mod gate;
mod handshake;
mod http2;
mod interop;
mod layering;
mod liars;
mod memory;
mod mtls;
mod plain_http;
mod probe;
mod proxied;
mod readme;
mod refusals;
mod reload;
mod seeing;
mod shutdown;
mod slow;
mod smoke;
mod sticky;
mod systemd;
mod takeover;
