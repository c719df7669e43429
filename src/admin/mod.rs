//! The admin listener: status, health and metrics, for whoever is on this machine. It looks at live
//! sessions and closes them itself; for all else it asks `server` by commands. The same desk, less its status, is what `server.metrics` shows to the network.

mod bearer;
mod bind;
mod browser;
mod desk;
mod orders;
mod page;
mod query;
mod serve;
mod sessions;
mod tap;

pub use bind::{AdminListener, SocketFile, address, bind, describe, inherit};
pub use serve::serve;

use crate::{
    config::Secret,
    lifecycle::{Command, ServerState},
    observe::{Metrics, SessionRegistry},
};
use std::sync::Arc;
use tokio::sync::{mpsc, watch};

/// What there is to tell, and whom to ask.
#[derive(Debug)]
pub struct Admin {
    /// For `/metrics`.
    pub metrics: Arc<Metrics>,
    /// For `/sessions`.
    pub sessions: Arc<SessionRegistry>,
    /// What requests must show; "": nothing.
    pub token: Secret,
    /// To the server.
    pub commands: mpsc::Sender<Command>,
    /// For `/readyz`.
    pub state: watch::Receiver<ServerState>,
}

/// How much of it a listener shows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Surface {
    /// All: `server.admin`.
    Full,
    /// `/metrics`, `/healthz` and `/readyz`: `server.metrics`.
    Metrics,
}

#[cfg(test)]
mod tests;
