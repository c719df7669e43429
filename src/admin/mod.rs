//! The admin listener: status, health and metrics for programs on this machine. It lists and closes live
//! sessions itself; everything else it requests from `server` by commands.
//! `server.metrics` serves the same API without the status. `listener.rs` binds, `serve.rs` accepts connections, and
//! `api.rs` answers a request, whose path `path.rs` parses.

pub(crate) mod api;
pub(crate) mod auth;
pub(crate) mod listener;
pub(crate) mod path;
pub(crate) mod proof;
pub(crate) mod query;
pub(crate) mod response;
pub(crate) mod serve;
pub(crate) mod sessions;
pub(crate) mod tap;

use crate::{
    admin::proof::ProofLimiter,
    config::Secret,
    lifecycle::command::{Command, ServerState},
    observe::metrics::Metrics,
    registry::SessionRegistry,
};
use std::sync::Arc;
use tokio::sync::{mpsc, watch};

/// The data sources of the admin API, and the command channel to the server.
#[derive(Debug)]
pub(crate) struct Admin {
    /// The source of `/metrics`.
    pub metrics: Arc<Metrics>,
    /// The source of `/sessions`.
    pub sessions: Arc<SessionRegistry>,
    /// The token that requests must present; empty if none is required.
    pub token: Secret,
    /// The rate limit of `/auth`.
    pub proofs: ProofLimiter,
    /// The command channel to the server.
    pub commands: mpsc::Sender<Command>,
    /// The source of `/readyz`.
    pub state: watch::Receiver<ServerState>,
    /// The maximum number of concurrent connections of one listener; more wait in the listen backlog.
    pub max_connections: usize,
}

/// The part of the admin API that a listener serves.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Surface {
    /// Every path: `server.admin`.
    Full,
    /// Only `/metrics`, `/healthz` and `/readyz`: `server.metrics`.
    Metrics,
}

#[cfg(test)]
mod tests;
