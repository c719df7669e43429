//! Arguments of the commands that query or control a running lockgate.

use crate::config::AdminAddress;
use clap::Args;
use std::path::PathBuf;

#[derive(Debug, Args)]
pub(in crate::cli) struct DrainArgs {
    /// The backend's address as shown by `lockgate status`, such as ws://10.0.0.1:8765. Applies to all pools.
    #[arg(
        long,
        value_name = "ADDRESS",
        required_unless_present = "route",
        conflicts_with = "route"
    )]
    pub(in crate::cli) backend: Option<String>,
    /// The route's name.
    #[arg(long, value_name = "NAME")]
    pub(in crate::cli) route: Option<String>,
    /// End the drain: accept new sessions again.
    #[arg(long)]
    pub(in crate::cli) undo: bool,
    #[command(flatten)]
    pub(in crate::cli) admin: AdminArgs,
}

#[derive(Debug, Args)]
pub(in crate::cli) struct AdminArgs {
    /// The admin address of the running lockgate. Default: that of --config, otherwise 127.0.0.1:9180.
    #[arg(long, value_name = "ADDRESS", env = "LOCKGATE_ADMIN")]
    pub(in crate::cli) admin: Option<AdminAddress>,
    /// The configuration file of the running lockgate, from which `server.admin` and `server.admin_token` are read.
    /// LOCKGATE_ADMIN_TOKEN overrides the token.
    #[arg(long, value_name = "FILE", env = "LOCKGATE_CONFIG")]
    pub(in crate::cli) config: Option<PathBuf>,
}
