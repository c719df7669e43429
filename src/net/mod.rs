//! Sockets, byte streams and name resolution, and what TLS needs on both sides of a connection.
//!
//! `socket` has the trait of all transports. Incoming: `listen` binds, `tls_stream` is TLS as a server. Outgoing:
//! `resolver` and `dns` find addresses, `dial` connects to one of them (`happy_eyeballs`), `tls_client` is TLS as a
//! client, `web_client` sends requests of Lockgate's own, and `keep_alive` sends many to one server; both connect by
//! `web_stream`. `pem` is the only loader of certificates, keys and root stores, and `crypto` has the provider of
//! rustls. `linger` closes a connection whose peer may still be sending, and `early_response` reads a response that a
//! server sent before it closed. `random` draws random numbers. `descriptors` counts file descriptors, `memory` knows
//! how much memory is left, and `coarse_clock` reads the kernel's coarse clock.
//!
//! Nothing here knows a configuration, an HTTP route, a frame or a session. Functions take plain values (addresses,
//! paths, names) and return errors; the caller converts its configuration into these values, and an error into a
//! diagnostic, a log line or a response. Handshakes with clients, including their certificates, belong to `tls`, and
//! the choice of a backend to `upstream`.

pub(crate) mod coarse_clock;
pub(crate) mod crypto;
pub(crate) mod descriptors;
pub(crate) mod dial;
pub(crate) mod dns;
pub(crate) mod early_response;
pub(crate) mod happy_eyeballs;
pub(crate) mod keep_alive;
pub(crate) mod linger;
pub(crate) mod listen;
pub(crate) mod local_addrs;
pub(crate) mod memory;
pub(crate) mod pem;
pub(crate) mod random;
pub(crate) mod resolver;
pub(crate) mod socket;
pub(crate) mod subnet;
pub(crate) mod tls_client;
pub(crate) mod tls_stream;
pub(crate) mod web_client;
pub(crate) mod web_stream;
