//! Lockgate: a TLS-terminating reverse proxy for WebSockets.
//!
//! # The journey of a request
//!
//! ```text
//! listener/accept.rs          acquire a ConnectionPermit, spawn one task           ─┐ one task per connection;
//! listener/connection.rs      PROXY header (proto/proxy_header.rs), limits per IP   │ one deadline until the
//! tls/accept.rs               ClientHello → ACME challenge, or TLS handshake        │ first request is read
//! net/tls_stream/mod.rs       TLS with the client from here on                     ─┘
//! http/server.rs, h2.rs       hyper over http/timeouts.rs
//! http/service.rs             one request: validate → route → authorize → rewrite → acquire → websocket | forward
//!   http/validate.rs            400, 405, 426, 501 for malformed or ambiguous requests
//!   router/mod.rs               find(&RouteQuery) → Match
//!   guard/                      address, origin, identity (http/authorize.rs)
//!   http/rewrite.rs             request line and managed headers rebuilt; token.rs
//!   upstream/pool.rs            acquire → Lease: balance.rs selects, or queue/ waits in order
//! http/retry.rs               the retry loop of websocket.rs and forward.rs
//! http/websocket.rs           upstream/connect.rs; backend_handshake.rs: verified 101; then our 101 to the client
//! http/session.rs             client upgrade, register in registry/mod.rs, spawn the splice
//! splice/session.rs           one task, two pumps, until Outcome → access log, metrics, lease released
//! ```
//!
//! Tasks that run as long as the process: `server/reload.rs` applies a new configuration when a file changes,
//! `tls/acme/` obtains and renews certificates, `upstream/health/checker.rs` runs health checks, and `server/tasks/`
//! refreshes DNS names and rebalances sessions. `CONTRIBUTING.md` describes how to build, test and extend Lockgate;
//! `docs/architecture.md` has the stream wrappers and the state machines of a close, a reload and a takeover.
//!
//! # Lexicon
//!
//! *listener*: a bound, listening socket. *connection*: one accepted TCP stream. *request*: one HTTP request, including
//! a WebSocket handshake. *route*: a rule over host, path and handshake headers, with a target. *pool*: a named set of
//! members. *member*: a backend as one configuration describes it. *backend*: one address; it outlives configurations.
//! *lease*: one unit of a backend's capacity, released on drop. *session*: one relayed WebSocket. *leg*: one side of a
//! session, `client` or `backend`. *frame*, *message*: RFC 6455 §5. *drain*: accept no new work, finish
//! requests in progress, and close sessions one by one. *gateway*: the immutable runtime form of a configuration.
//! *diagnostic*: one error in a configuration. *takeover*: a new process receives the listening sockets of the running
//! one.
//!
//! # Import rules
//!
//! A module imports only modules of lower layers; `tests/it/layering.rs` enforces it.

// 0
pub(crate) mod fs;
pub(crate) mod lifecycle;
#[doc(hidden)]
pub mod proto;
// 1
pub(crate) mod net;
// 2
pub(crate) mod config;
// 3
pub(crate) mod observe;
pub(crate) mod store;
// 4
pub(crate) mod registry;
// 5
pub(crate) mod guard;
pub(crate) mod router;
pub(crate) mod splice;
pub(crate) mod tls;
pub(crate) mod upstream;
// 6
pub(crate) mod gateway;
// 7
pub(crate) mod http;
// 8
pub(crate) mod admin;
pub(crate) mod listener;
// 9
pub(crate) mod server;
// 10
pub mod cli;

/// What the benchmarks and the tests of this repository use; not part of the public API.
#[doc(hidden)]
pub mod internals {
    pub use crate::{
        config::{
            diagnostic::Located,
            schema::{
                Config,
                pool::{
                    Admission, AllDown, Backend, Balance, Passive, Pool as PoolConfig, Retry,
                    Sticky,
                },
                route::Route,
                server::Server as ServerConfig,
            },
            values::{
                selector::HashKey,
                units::{DurationValue, Rebalance},
            },
        },
        gateway::Gateway,
        lifecycle::{inherited::Inherited, process::Signal},
        net::{
            crypto::install_provider,
            socket::{BackendStream, Socket},
            tls_stream::ServerStream,
        },
        observe::{
            access::{AccessLog, record::SessionRecord},
            metrics::Metrics,
        },
        proto::path::NormalPath,
        registry::{SessionRegistry, SessionTarget},
        router::{
            Router,
            rule::{RouteQuery, Rule},
        },
        server::{Server, active_config::ConfigSource},
        splice::{run, session::SpliceLegs},
        tls::{
            accept::{AcceptOutcome, accept},
            certs::CertIssuers,
            dev::DevCa,
        },
        upstream::{backend::Backends, pool::Pool},
    };
}
