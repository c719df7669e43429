//! Requests: vetted, rebuilt, and answered by a backend, or refused.
//!
//! What lives here: everything between a decrypted stream and a session. What does not: which route wins (`router`),
//! who may pass (`guard`), where backends are (`upstream`), and what happens after the 101 (`splice`).

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

/// What every request needs, made once by the server.
#[derive(Debug)]
pub struct Context {
    /// The gateway in force.
    pub live: Live,
    /// Where sessions are entered.
    pub sessions: Arc<SessionRegistry>,
    /// Places for sessions.
    pub session_permits: Arc<Semaphore>,
    /// Counters.
    pub metrics: Arc<Metrics>,
    /// One record per request or session.
    pub access: AccessLog,
    /// Where sessions run.
    pub tasks: Tasks,
    /// Where backends' names are found.
    pub resolver: Resolver,
    plain: HttpClient,
}

/// Who is at the other end of a connection.
#[derive(Debug, Clone)]
pub struct Peer {
    /// The address, unmapped; behind a PROXY header the one that it names.
    pub address: IpAddr,
    /// The port at that address.
    pub port: u16,
    /// The end of the connection that is ours.
    pub reached: SocketAddr,
    /// Whether it was asked for a certificate.
    pub asked: bool,
    /// The certificate that it has shown.
    pub identity: Option<ClientCertHeader>,
}

// === impl Context ===

impl Context {
    /// Joins what the server made.
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

/// A body on its way through, never buffered whole.
type Body = UnsyncBoxBody<Bytes, Box<dyn std::error::Error + Send + Sync>>;
