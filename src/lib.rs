//! Lockgate: a TLS-terminating reverse proxy made for WebSockets.
//!
//! # The journey of a connection
//!
//! ```text
//! listener/accept.rs   acquire a permit, spawn one task      ─┐ one task per connection,
//! listener/conn.rs     PROXY header (proto/proxy.rs)          │ one deadline until the
//! tls/acceptor.rs      ClientHello → ACME, or TLS handshake   │ first request is read
//! wire/mod.rs          TLS with the client from here on       │
//! http/service.rs      one request: snapshot, gate, guards   ─┘
//! router/mod.rs        find(&Parts) → &Route
//! upstream/pool.rs     balance.rs selects a backend, or the request queues (admission.rs) → Lease
//! http/upgrade.rs      connect.rs dials, tls.rs performs the TLS handshake, then the WebSocket handshake; retries in tries.rs
//! splice/session.rs    one task, two pumps, until Outcome → access log, metrics, lease released
//! ```
//!
//! Tasks that run as long as the process: `server/reload.rs` applies a new configuration when a file changes,
//! `tls/acme.rs` obtains and renews certificates, `upstream/health/watch.rs` runs health checks, and
//! `server/rebalancing.rs` spreads sessions over the backends of a pool.
//!
//! # Lexicon
//!
//! *listener*: a bound, listening socket. *connection*: one accepted TCP stream. *request*: one HTTP request, including a
//! WebSocket handshake. *route*: a rule over host, path and handshake headers, with a target. *pool*: a named set of
//! members. *member*: a backend as one configuration describes it. *backend*: one address; it outlives configurations.
//! *lease*: one unit of a backend's capacity, released on drop. *session*: one relayed WebSocket. *leg*: one side of a
//! session, `client` or `backend`. *frame*, *message*: RFC 6455 §5. *drain*: accept no new work, finish existing work.
//! *gateway*: the immutable runtime form of a configuration. *diagnostic*: one error in a configuration. *takeover*: a new
//! process receives the listening sockets of the running one.
//!
//! # Import rules
//!
//! A module imports only modules with a lower number; `tests/it/layering.rs` enforces it.

pub mod admin;
pub mod cli;
pub mod config;
pub mod gateway;
pub mod guard;
pub mod http;
pub mod lifecycle;
pub mod listener;
pub mod net;
pub mod observe;
pub mod proto;
pub mod registry;
pub mod router;
pub mod server;
pub mod splice;
pub mod store;
pub mod tls;
pub mod upstream;
