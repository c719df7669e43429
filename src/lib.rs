//! Lockgate: a TLS-terminating reverse proxy made for WebSockets.
//!
//! # The journey of a connection
//!
//! ```text
//! listener/accept.rs   take a permit, spawn one task         ─┐ one task per connection,
//! listener/conn.rs     PROXY header (proto/proxy.rs)          │ one deadline until the
//! tls/acceptor.rs      ClientHello → ACME answer or handshake │ first request is read
//! wire/mod.rs          TLS with the client from then on       │
//! http/service.rs      one request: snapshot, gate, guards   ─┘
//! router/mod.rs        find(&Parts) → &Route
//! upstream/pool.rs     balance.rs chooses, or one waits in order (admission.rs) → Lease
//! http/upgrade.rs      connect.rs dials, tls.rs secures, WebSocket handshake; or another backend (tries.rs)
//! splice/session.rs    one task, two pumps, until Outcome → access log, metrics, lease released
//! ```
//!
//! Beside it, as long as the process lives: `server/reload.rs` puts another configuration in force when a file changes,
//! `tls/acme.rs` keeps a fresh certificate for every host that wants one, and `upstream/health/watch.rs` asks backends
//! whether they are well, and `server/rebalancing.rs` evens sessions out among them.
//!
//! # Lexicon
//!
//! These words, and no synonyms. *listener*: a bound socket. *connection*: one accepted TCP stream. *request*.
//! *route*: a rule over host, path and handshake, with a target. *pool*: a named set of backends. *backend*: one
//! address. *lease*: a taken place on a backend, released on drop. *session*: one spliced WebSocket. *leg*: one side
//! of a session, `client` or `backend`. *frame*, *message*: RFC 6455. *drain*: no new work, finish the old.
//! *gateway*: the immutable, built form of a config. *problem*: one thing wrong in a config.
//!
//! # Import rules
//!
//! Downward only, siblings never; `tests/it/layering.rs` enforces it.

// 0
pub mod lifecycle;
pub mod proto;
pub mod wire;
// 1
pub mod config;
// 2
pub mod observe;
// 3
pub mod guard;
pub mod router;
pub mod splice;
pub mod tls;
pub mod upstream;
// 4
pub mod gateway;
// 5
pub mod http;
// 6
pub mod admin;
pub mod listener;
// 7
pub mod server;
// 8
pub mod cli;
