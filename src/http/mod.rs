//! HTTP requests: validated, rewritten, and answered by a backend or refused.
//!
//! In scope: everything between a decrypted stream and a session. Not in scope: route selection (`router`),
//! access checks (`guard`), backend addresses (`upstream`), and everything after the 101 (`splice`).

pub(crate) mod backend_handshake;
pub(crate) mod body;
pub(crate) mod client;
pub(crate) mod client_cert;
pub(crate) mod explain;
pub(crate) mod forward;
pub(crate) mod h2;
pub(crate) mod redirect;
pub(crate) mod refusal;
pub(crate) mod request;
pub(crate) mod retry;
pub(crate) mod rewrite;
pub(crate) mod server;
pub(crate) mod service;
pub(crate) mod session;
pub(crate) mod timeouts;
pub(crate) mod token;
pub(crate) mod validate;
pub(crate) mod websocket;

use crate::{
    gateway::Live,
    http::{client::HttpClient, client_cert::ClientCertHeader},
    lifecycle::tasks::Tasks,
    net::resolver::Resolver,
    observe::{access::AccessLog, metrics::Metrics},
    registry::SessionRegistry,
};
use bytes::Bytes;
use http_body_util::combinators::UnsyncBoxBody;
use std::{
    net::{IpAddr, SocketAddr},
    sync::Arc,
};
use tokio::sync::Semaphore;

/// The shared state of all requests, created once by the server.
#[derive(Debug)]
pub(crate) struct Context {
    /// The current gateway.
    pub live: Live,
    /// The registry of sessions.
    pub sessions: Arc<SessionRegistry>,
    /// The permits for sessions.
    pub session_permits: Arc<Semaphore>,
    /// Counters.
    pub metrics: Arc<Metrics>,
    /// One record per request or session.
    pub access: AccessLog,
    /// The runtime on which sessions run.
    pub tasks: Tasks,
    /// The resolver for backend names.
    pub resolver: Resolver,
    http_client: HttpClient,
}

/// The other end of a connection.
#[derive(Debug, Clone)]
pub(crate) struct Peer {
    /// The address, unmapped; behind a PROXY header, the address in that header.
    pub address: IpAddr,
    /// The port at that address.
    pub port: u16,
    /// The local address of the connection.
    pub local: SocketAddr,
    /// Whether a client certificate was requested.
    pub client_auth_requested: bool,
    /// The certificate that the client presented.
    pub client_cert: Option<ClientCertHeader>,
}

// === impl Context ===

impl Context {
    /// Creates the context from the server's parts.
    pub(crate) fn new(
        live: Live,
        max_sessions: usize,
        metrics: Arc<Metrics>,
        access: AccessLog,
        sessions: Arc<SessionRegistry>,
        tasks: Tasks,
    ) -> Self {
        let resolver = Resolver::system();
        Context {
            live,
            sessions,
            session_permits: Arc::new(Semaphore::new(max_sessions)),
            metrics,
            access,
            tasks,
            http_client: HttpClient::new(resolver.clone()),
            resolver,
        }
    }
}

/// A streaming body, never buffered whole.
type Body = UnsyncBoxBody<Bytes, Box<dyn std::error::Error + Send + Sync>>;
