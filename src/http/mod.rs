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

/// What every request needs, created once by the server.
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
    plain: HttpClient,
}

/// The other end of a connection.
#[derive(Debug, Clone)]
pub struct Peer {
    /// The address, unmapped; behind a PROXY header, the address in that header.
    pub address: IpAddr,
    /// The port at that address.
    pub port: u16,
    /// The local address of the connection.
    pub reached: SocketAddr,
    /// Whether a client certificate was requested.
    pub asked: bool,
    /// The certificate that the client presented.
    pub identity: Option<ClientCertHeader>,
}

// === impl Context ===

impl Context {
    /// Creates the context from the server's parts.
    pub fn new(
        live: Live,
        places: usize,
        metrics: Arc<Metrics>,
        access: AccessLog,
        sessions: Arc<SessionRegistry>,
        tasks: Tasks,
    ) -> Self {
        let resolver = Resolver::system();
        Context {
            live,
            sessions,
            session_permits: Arc::new(Semaphore::new(places)),
            metrics,
            access,
            tasks,
            plain: HttpClient::new(resolver.clone()),
            resolver,
        }
    }
}

/// A streaming body, never buffered whole.
type Body = UnsyncBoxBody<Bytes, Box<dyn std::error::Error + Send + Sync>>;
