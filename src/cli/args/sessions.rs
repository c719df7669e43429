//! Arguments of the commands that list, tap and close sessions of a running lockgate.

use super::AdminArgs;
use crate::config::{Cidr, DurationValue};
use clap::Args;

/// A filter for sessions: all given conditions must hold.
#[derive(Debug, Args)]
pub(in crate::cli) struct FilterArgs {
    /// Only sessions of this route.
    #[arg(long, value_name = "NAME")]
    pub(in crate::cli) route: Option<String>,
    /// Only sessions on this backend, as shown by `lockgate status`, such as ws://10.0.0.1:8765.
    #[arg(long, value_name = "ADDRESS")]
    pub(in crate::cli) backend: Option<String>,
    /// Only sessions of this client address or network, such as 10.0.0.0/8.
    #[arg(long, value_name = "ADDRESS")]
    pub(in crate::cli) client: Option<Cidr>,
    /// Only sessions older than this, such as 10m.
    #[arg(long, value_name = "DURATION")]
    pub(in crate::cli) longer_than: Option<DurationValue>,
}

#[derive(Debug, Args)]
pub(in crate::cli) struct SessionsArgs {
    #[command(flatten)]
    pub(in crate::cli) filter: FilterArgs,
    /// Show at most this many sessions; 0 means all.
    #[arg(long, value_name = "NUMBER", default_value = "1000")]
    pub(in crate::cli) limit: usize,
    /// Print JSON.
    #[arg(long)]
    pub(in crate::cli) json: bool,
    #[command(flatten)]
    pub(in crate::cli) admin: AdminArgs,
}

#[derive(Debug, Args)]
pub(in crate::cli) struct TapArgs {
    /// The id of one session, as shown by `lockgate sessions` and in the access log.
    pub(in crate::cli) id: Option<String>,
    #[command(flatten)]
    pub(in crate::cli) filter: FilterArgs,
    /// Show this many bytes of each frame, at most 4096.
    #[arg(long, value_name = "NUMBER", default_value = "128")]
    pub(in crate::cli) bytes: u16,
    /// Show at most this many frames per second, up to 1000; further frames are only counted.
    #[arg(long, value_name = "NUMBER", default_value = "100")]
    pub(in crate::cli) rate: u16,
    /// How long to show frames, at most 1h.
    #[arg(long = "for", value_name = "DURATION", default_value = "60s")]
    pub(in crate::cli) lasting: DurationValue,
    /// Print one JSON object per line.
    #[arg(long)]
    pub(in crate::cli) json: bool,
    #[command(flatten)]
    pub(in crate::cli) admin: AdminArgs,
}

#[derive(Debug, Args)]
pub(in crate::cli) struct KickArgs {
    /// The id of one session, as shown by `lockgate sessions` and in the access log.
    pub(in crate::cli) id: Option<String>,
    #[command(flatten)]
    pub(in crate::cli) filter: FilterArgs,
    /// Close every live session.
    #[arg(long)]
    pub(in crate::cli) all: bool,
    /// The close code sent to clients (RFC 6455 §7.4); backends receive 1001.
    #[arg(long, value_name = "CODE", default_value = "1008")]
    pub(in crate::cli) code: u16,
    /// The close reason, at most 123 bytes.
    #[arg(long, value_name = "TEXT", default_value = "")]
    pub(in crate::cli) reason: String,
    #[command(flatten)]
    pub(in crate::cli) admin: AdminArgs,
}
