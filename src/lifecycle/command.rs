//! What `admin` may ask of `server`; every command carries the way of its reply.

use serde::Serialize;
use std::{fmt, sync::Arc};
use tokio::sync::oneshot;

/// A question or an order for the server.
#[derive(Debug)]
pub enum Command {
    /// How do you do?
    Status(oneshot::Sender<Status>),
    /// Read the configuration again. The answer is what came of it, or what is wrong.
    Reload(oneshot::Sender<Result<String, String>>),
    /// Give everything to another process that comes to the socket of the name that is answered; or why not.
    HandOver(oneshot::Sender<Result<String, String>>),
    /// Have a route or a backend finish its sessions and take no new ones, or (`false`) take them again. The answer is what
    /// that means, or why nothing.
    Drain(
        DrainTarget,
        bool,
        oneshot::Sender<Result<DrainReport, String>>,
    ),
    /// What is every host served with?
    Certificates(oneshot::Sender<Vec<CertificateStatus>>),
    /// Order a new certificate for this host now; `Err` says why not.
    Renew(Box<str>, oneshot::Sender<Result<(), String>>),
}

/// What is drained.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum DrainTarget {
    /// A route, by its name.
    Route(Box<str>),
    /// A backend, by its address, in all pools.
    Backend(Box<str>),
}

/// What becomes of an order to drain.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct DrainReport {
    /// How many sessions are closed.
    pub closing: usize,
    /// Pools that have no backend left that takes new sessions.
    pub pools_without_backend: Vec<Arc<str>>,
}

/// Where the process stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum ServerState {
    /// Listeners are not bound yet.
    Starting,
    /// Accepts work.
    Ready,
    /// Finishes old work, takes no new.
    Draining,
}

/// A picture of the server at one moment, as `lockgate status` shows it.
#[derive(Debug, Clone, Serialize)]
pub struct Status {
    /// The program's version.
    pub version: &'static str,
    /// Where the process stands.
    pub state: ServerState,
    /// Its process id.
    pub process: u32,
    /// Seconds since the start.
    pub uptime_seconds: u64,
    /// Open connections, those of sessions included.
    pub connections: u64,
    /// The ceiling in force.
    pub connections_max: u64,
    /// Live sessions.
    pub sessions: u64,
    /// The ceiling in force.
    pub sessions_max: u64,
    /// Sessions that must close and are still to be told.
    pub closing: u64,
    /// The configuration in force.
    pub config: ConfigStatus,
    /// Bound sockets, with their real ports.
    pub listeners: Vec<ListenerStatus>,
    /// Routes in the order in which they are tried.
    pub routes: Vec<RouteStatus>,
    /// Pools, those of routes with `to` too.
    pub pools: Vec<PoolStatus>,
    /// Names that DNS is asked for.
    pub names: Vec<NameStatus>,
    /// Backends of all pools.
    pub backends: Vec<BackendStatus>,
}

/// The configuration in force.
#[derive(Debug, Clone, Serialize)]
pub struct ConfigStatus {
    /// Where it was read from; `None` where flags are all there is.
    pub file: Option<String>,
    /// Since when it is in force, as RFC 3339 writes it.
    pub loaded: String,
    /// Why what was read last is not.
    pub error: Option<String>,
    /// Keys that were changed and take a restart.
    pub needs_restart: Vec<&'static str>,
}

/// A bound socket.
#[derive(Debug, Clone, Serialize)]
pub struct ListenerStatus {
    /// "https", "http", "admin" or "metrics".
    pub kind: &'static str,
    /// Address and port, or a Unix socket's path.
    pub address: String,
}

/// A route.
#[derive(Debug, Clone, Serialize)]
pub struct RouteStatus {
    /// Its identity.
    pub name: String,
    /// Its ordered summary: hosts, path and conditions.
    pub rule: String,
    /// Its pool.
    pub pool: String,
    /// It takes no new sessions, by an operator's order.
    pub draining: bool,
}

/// A pool.
#[derive(Debug, Clone, Serialize)]
pub struct PoolStatus {
    /// Its identity.
    pub name: String,
    /// Requests that wait for a place on a backend.
    pub waiting: usize,
}

/// A name in DNS that a pool has.
#[derive(Debug, Clone, Serialize)]
pub struct NameStatus {
    /// As it was written.
    pub name: String,
    /// What was wrong with DNS's last answer, or that there was none.
    pub error: Option<String>,
}

/// A backend.
#[derive(Debug, Clone, Serialize)]
pub struct BackendStatus {
    /// The pool it is in.
    pub pool: String,
    /// Its identity.
    pub address: String,
    /// Leases held, by all pools that have it: sessions, requests and handshakes under way.
    pub leases: u64,
    /// Handshakes under way.
    pub handshakes: u64,
    /// "up", "down", "ejected", "draining", "warming": new or back, with a growing part of what is new (`slow_start`); or
    /// "vanished": DNS has it no more, and it gets nothing new.
    pub state: &'static str,
    /// How much longer it is ejected, unless a session is answered before.
    pub ejected_seconds: Option<u64>,
    /// What failed last, if nothing went well since.
    pub why: Option<String>,
    /// It takes no new sessions, by an operator's order.
    pub draining: bool,
}

/// What a host is served with.
#[derive(Debug, Clone, Serialize)]
pub struct CertificateStatus {
    /// Its name, or the first of them.
    pub host: String,
    /// "file", "acme" or "dev".
    pub source: &'static str,
    /// The file, the directory's URL, or the development CA's file.
    pub from: String,
    /// Who signed it; `None` while there is none but a stopgap.
    pub issuer: Option<String>,
    /// What it is for: DNS names and addresses.
    pub names: Vec<String>,
    /// Its last moment, as RFC 3339 writes it.
    pub not_after: Option<String>,
    /// A CA is being asked at this moment.
    pub ordering: bool,
    /// When a CA will be asked.
    pub next_attempt: Option<String>,
    /// Why that did not help the last time, in the CA's own words; or what is wrong with the files, for which reason
    /// they are not what is served.
    pub error: Option<String>,
}

// === impl DrainTarget ===

impl fmt::Display for DrainTarget {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            DrainTarget::Route(name) => write!(f, "route {name:?}"),
            DrainTarget::Backend(address) => write!(f, "backend {address:?}"),
        }
    }
}
