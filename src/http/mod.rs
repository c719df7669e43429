//! HTTP requests: validated, rewritten, and answered by a backend or refused.
//!
//! In scope: everything between a decrypted stream and a session. Not in scope: route selection (`router`),
//! access checks (`guard`), backend addresses (`upstream`), and everything after the 101 (`splice`). Open `service.rs`
//! first: it is the journey of a request.

pub(crate) mod admitted;
pub(crate) mod authorize;
pub(crate) mod backend_handshake;
pub(crate) mod body;
pub(crate) mod bound;
pub(crate) mod challenge;
pub(crate) mod client;
pub(crate) mod client_permit;
pub(crate) mod client_table;
pub(crate) mod conn_end;
pub(crate) mod conn_state;
pub(crate) mod connection_auth;
pub(crate) mod context;
pub(crate) mod explain;
pub(crate) mod forward;
pub(crate) mod h2;
pub(crate) mod h2_refusals;
pub(crate) mod h2_response;
pub(crate) mod idle_pool;
pub(crate) mod parse_refusal;
pub(crate) mod peer;
pub(crate) mod pooled;
pub(crate) mod progress;
pub(crate) mod redirect;
pub(crate) mod refresh;
pub(crate) mod refusal;
pub(crate) mod request;
pub(crate) mod request_body;
pub(crate) mod retry;
pub(crate) mod rewrite;
pub(crate) mod server;
pub(crate) mod service;
pub(crate) mod session;
pub(crate) mod timeouts;
pub(crate) mod token;
pub(crate) mod unparsed;
pub(crate) mod validate;
pub(crate) mod websocket;
