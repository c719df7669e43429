//! HTTP requests: validated, rewritten, and answered by a backend or refused.
//!
//! In scope: everything between a decrypted stream and a session. Not in scope: route selection (`router`),
//! access checks (`guard`), backend addresses (`upstream`), and everything after the 101 (`splice`).

mod asked;
mod body;
mod canonical;
mod cleartext;
mod compression;
mod explain;
mod forward;
mod framing;
mod gate;
mod identity;
mod names;
mod outbound;
mod patience;
mod reach;
mod reject;
mod send;
mod serve;
mod service;
mod session;
mod shake;
mod sticky;
mod telling;
mod token;
mod tries;
mod tunnel;
mod upgrade;

use crate::{
    gateway::Live,
    lifecycle::Tasks,
    observe::{AccessLog, Metrics, SessionRegistry},
    upstream::Resolver,
};
use bytes::Bytes;
use http_body_util::combinators::UnsyncBoxBody;
use send::HttpClient;
use std::{
    net::{IpAddr, SocketAddr},
    sync::Arc,
};
use tokio::sync::Semaphore;

pub use cleartext::serve_redirect;
pub use explain::{Explanation, WouldForward, WouldRefuse, explain};
pub use identity::ClientCertHeader;
pub use serve::serve;

/// The shared state of all requests, created once by the server.
#[derive(Debug)]
pub struct Context {
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
pub struct Peer {
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
    pub fn new(
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
