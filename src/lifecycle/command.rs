//! The commands that `admin` sends to `server`, and their replies. Every command carries its reply channel.

use serde::Serialize;
use std::{error::Error, fmt, io, sync::Arc};
use tokio::sync::oneshot;

/// A command for the server.
#[derive(Debug)]
pub(crate) enum Command {
    /// Requests the status.
    Status(oneshot::Sender<Status>),
    /// Reloads the configuration. Replies with a message, or with the errors.
    Reload(oneshot::Sender<Result<String, ReloadError>>),
    /// Offers a takeover. Replies with the name of the socket to which the successor must connect, or with the error.
    HandOver(oneshot::Sender<Result<String, OfferError>>),
    /// Starts or ends the drain of a route or backend. Replies with the effect, or with the error.
    Drain {
        target: DrainTarget,
        action: DrainAction,
        reply: oneshot::Sender<Result<DrainReport, DrainError>>,
    },
    /// Requests the status of the certificates.
    Certificates(oneshot::Sender<Vec<CertificateStatus>>),
    /// Orders a new certificate for this host now. Replies with the error, if any.
    Renew(Box<str>, oneshot::Sender<Result<(), RenewalError>>),
}

/// The route or backend that a drain affects.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum DrainTarget {
    /// A route, by its name.
    Route(Box<str>),
    /// A backend, by its address, in all pools.
    Backend(Box<str>),
}

/// What a command does with a drain.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum DrainAction {
    Start,
    End,
}

/// The effect of a drain.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct DrainReport {
    /// The number of sessions that will be closed.
    pub closing: usize,
    /// Pools without a backend that accepts new sessions.
    pub pools_without_backend: Vec<Arc<str>>,
}

/// The effect of a reload that applied a configuration.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct ReloadReport {
    /// The number of sessions that will be closed, because their route or backend was removed.
    pub closing: usize,
    /// Changed keys that require a restart.
    pub restart_keys: Vec<&'static str>,
}

/// Why a reload changed nothing.
#[derive(Debug, Clone, thiserror::Error)]
pub(crate) enum ReloadError {
    #[error("lockgate is stopping")]
    Stopping,
    #[error("too many reloads are waiting: wait for one of them")]
    TooManyWaiting,
    /// The configuration was rejected, or could not be read.
    #[error(transparent)]
    Rejected(Arc<dyn Error + Send + Sync>),
}

/// Why a takeover is not offered.
#[derive(Debug, thiserror::Error)]
pub(crate) enum OfferError {
    #[error("lockgate is stopping")]
    Stopping,
    #[error("another process is taking over; try again in ten seconds")]
    Pending,
    #[error("cannot pass on the listening sockets")]
    Sockets(#[source] io::Error),
}

/// Why a drain neither started nor ended.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(crate) enum DrainError {
    #[error("there is no route `{0}`; `lockgate status` shows them")]
    UnknownRoute(Box<str>),
    #[error("there is no backend {0}; write it as `lockgate status` shows it")]
    UnknownBackend(Box<str>),
}

/// Why no certificate is ordered.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(crate) enum RenewalError {
    #[error(
        "there is no [acme] section: certificates from files are renewed by replacing the files"
    )]
    NoAcme,
    #[error("{name} has no certificate by ACME here; {}", managed_names(.managed))]
    NotManaged {
        name: Box<str>,
        /// The hosts whose certificates are obtained by ACME.
        managed: Vec<Box<str>>,
    },
    #[error(
        "another process orders the certificates in this directory: send the command to that process"
    )]
    OtherProcess,
    #[error(
        "{0} received a certificate within the last day; CAs limit certificates for the same name"
    )]
    IssuedRecently(Box<str>),
}

/// The state of the process.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum ServerState {
    /// Listeners are not bound yet.
    Starting,
    /// Accepts new work.
    Ready,
    /// Finishes existing work and accepts no new work.
    Draining,
}

/// A snapshot of the server, as `lockgate status` shows it.
#[derive(Debug, Clone, Serialize)]
pub(crate) struct Status {
    /// The program's version.
    pub version: &'static str,
    /// The state of the process.
    pub state: ServerState,
    /// The process id of the server.
    pub process: u32,
    /// Seconds since startup.
    pub uptime_seconds: u64,
    /// Open connections, including those of sessions.
    pub connections: u64,
    /// The maximum number of open connections.
    pub connections_max: u64,
    /// The number of live sessions.
    pub sessions: u64,
    /// The maximum number of live sessions.
    pub sessions_max: u64,
    /// Plain requests in progress.
    pub requests: u64,
    /// Open connections to backends: of sessions, handshakes, requests and health checks.
    pub backend_connections: u64,
    /// The part of them that serves no request.
    pub backend_connections_idle: u64,
    /// File descriptors of connections of clients and to backends.
    pub descriptors: u64,
    /// The maximum number of them: the descriptor limit of the process without a reserve.
    pub descriptors_max: u64,
    /// Sessions that must close and have no close order yet.
    pub closing: u64,
    /// The file, the load time and the errors of the configuration.
    pub config: ConfigStatus,
    /// The bound listeners, with their actual ports.
    pub listeners: Vec<ListenerStatus>,
    /// Routes in the order in which they are matched.
    pub routes: Vec<RouteStatus>,
    /// Pools, including those of routes with `to`.
    pub pools: Vec<PoolStatus>,
    /// The queried DNS names.
    pub names: Vec<NameStatus>,
    /// Backends of all pools.
    pub backends: Vec<BackendStatus>,
}

/// The current configuration, and the result of the last attempt to replace it.
#[derive(Debug, Clone, Serialize)]
pub(crate) struct ConfigStatus {
    /// The file; `None` if Lockgate was started with flags only.
    pub file: Option<String>,
    /// The time at which it became current, in RFC 3339 format.
    pub loaded: String,
    /// Why the last configuration that was read was rejected.
    pub error: Option<String>,
    /// Changed keys that require a restart.
    pub needs_restart: Vec<&'static str>,
}

/// A bound socket, as `lockgate status` shows it.
#[derive(Debug, Clone, Serialize)]
pub struct ListenerStatus {
    /// "https", "http", "admin" or "metrics".
    pub kind: &'static str,
    /// Address and port, or a Unix socket's path.
    pub address: String,
}

/// A route, as `lockgate status` shows it.
#[derive(Debug, Clone, Serialize)]
pub struct RouteStatus {
    /// The name of the route.
    pub name: String,
    /// The summary of its conditions: hosts, path and headers.
    pub rule: String,
    /// The name of its pool.
    pub pool: String,
    /// Whether it accepts no new sessions, by an operator's order.
    pub draining: bool,
}

/// A pool, as `lockgate status` shows it.
#[derive(Debug, Clone, Serialize)]
pub struct PoolStatus {
    /// The name of the pool.
    pub name: String,
    /// Requests in the admission queue.
    pub waiting: usize,
}

/// A DNS name in a pool.
#[derive(Debug, Clone, Serialize)]
pub(crate) struct NameStatus {
    /// The name as configured.
    pub name: String,
    /// Why the last query failed or its answer is incomplete.
    pub error: Option<String>,
}

/// A backend in one pool, as `lockgate status` shows it.
#[derive(Debug, Clone, Serialize)]
pub struct BackendStatus {
    /// The name of its pool.
    pub pool: String,
    /// The address as configured or resolved.
    pub address: String,
    /// Leases of all its pools: sessions, requests and handshakes in progress.
    pub leases: u64,
    /// Handshakes in progress, of all its pools.
    pub handshakes: u64,
    /// "up", "down", "ejected", "draining", "warming" (in slow start), or "vanished" (no longer in DNS; it receives no
    /// new sessions and requests).
    pub state: &'static str,
    /// The remaining time of its ejection; a successful handshake ends it earlier.
    pub ejected_seconds: Option<u64>,
    /// The last failure, unless a success followed.
    pub why: Option<String>,
    /// Whether it accepts no new sessions, by an operator's order.
    pub draining: bool,
}

/// The certificate of a host.
#[derive(Debug, Clone, Serialize)]
pub struct CertificateStatus {
    /// The host, or the first of several.
    pub host: String,
    /// "file", "acme" or "dev".
    pub source: &'static str,
    /// The file, the URL of the ACME directory, or the file of the development CA.
    pub from: String,
    /// The issuer; `None` while only a temporary self-signed certificate is present.
    pub issuer: Option<String>,
    /// The DNS names and addresses in the certificate.
    pub names: Vec<String>,
    /// The beginning of its validity, in RFC 3339 format.
    pub not_before: Option<String>,
    /// The end of its validity, in RFC 3339 format.
    pub not_after: Option<String>,
    /// Whether an ACME order is in progress.
    pub ordering: bool,
    /// The time of the next ACME order.
    pub next_attempt: Option<String>,
    /// The error of the last ACME order, as reported by the CA; or the error in the files, because of which the
    /// previous certificate is still in use.
    pub error: Option<String>,
    /// Why clients may reject the certificate although it is in use, with the remedy.
    pub warning: Option<String>,
}

// === impl ReloadReport ===

impl fmt::Display for ReloadReport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("configuration applied")?;
        match self.closing {
            0 => {}
            1 => f.write_str("; closing 1 session whose route or backend was removed")?,
            n => write!(
                f,
                "; closing {n} sessions whose route or backend was removed"
            )?,
        }
        if !self.restart_keys.is_empty() {
            let keys = self.restart_keys.join(", ");
            write!(f, "; these changed keys require a restart: {keys}")?;
        }
        Ok(())
    }
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

fn managed_names(names: &[Box<str>]) -> String {
    match names {
        [] => "no name has one".to_owned(),
        names => format!("these are: {}", names.join(", ")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reload_report_counts_one_session_in_the_singular() {
        let text = |closing, restart_keys: &[&'static str]| {
            let restart_keys = restart_keys.to_vec();
            let report = ReloadReport {
                closing,
                restart_keys,
            };
            report.to_string()
        };
        assert_eq!(text(0, &[]), "configuration applied");
        assert!(text(1, &[]).ends_with("; closing 1 session whose route or backend was removed"));
        assert!(text(2, &[]).ends_with("; closing 2 sessions whose route or backend was removed"));
        assert!(text(0, &["acme", "server.log"]).ends_with("a restart: acme, server.log"));
    }
}
