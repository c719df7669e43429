//! Arguments of the commands that start no proxy: `check`, `explain`, `probe` and `doctor`.

use super::DataArgs;
use crate::config::{AdminAddress, DurationValue};
use clap::Args;
use std::{net::IpAddr, path::PathBuf};

#[derive(Debug, Args)]
pub(in crate::cli) struct CheckArgs {
    /// The configuration file.
    #[arg(long, value_name = "FILE", env = "LOCKGATE_CONFIG")]
    pub(in crate::cli) config: PathBuf,
    /// Print JSON.
    #[arg(long)]
    pub(in crate::cli) json: bool,
    #[command(flatten)]
    pub(in crate::cli) data: DataArgs,
}

#[derive(Debug, Args)]
pub(in crate::cli) struct ExplainArgs {
    /// The URL that a client would request, such as wss://chat.example.com/ws/room; https:// for plain HTTP.
    pub(in crate::cli) url: String,
    /// The configuration file.
    #[arg(long, value_name = "FILE", env = "LOCKGATE_CONFIG")]
    pub(in crate::cli) config: PathBuf,
    /// A header that the client sends, such as `Origin: https://example.com`. May be repeated.
    #[arg(long, value_name = "NAME: VALUE")]
    pub(in crate::cli) header: Vec<String>,
    /// A subprotocol that the client offers. May be repeated.
    #[arg(long, value_name = "NAME")]
    pub(in crate::cli) protocol: Vec<String>,
    /// The client's address.
    #[arg(long, value_name = "ADDRESS", default_value = "127.0.0.1")]
    pub(in crate::cli) from: IpAddr,
    /// Print JSON.
    #[arg(long)]
    pub(in crate::cli) json: bool,
    #[command(flatten)]
    pub(in crate::cli) data: DataArgs,
}

#[derive(Debug, Args)]
pub(in crate::cli) struct ProbeArgs {
    /// The URL to open, such as wss://chat.example.com/ws.
    pub(in crate::cli) url: String,
    /// Trust only the CA certificates in this PEM file. Default: the public CAs and this user's development CA.
    #[arg(long, value_name = "FILE")]
    pub(in crate::cli) ca: Option<PathBuf>,
    /// A subprotocol to offer. May be repeated.
    #[arg(long, value_name = "NAME")]
    pub(in crate::cli) protocol: Vec<String>,
    /// A header to send, such as `Origin: https://example.com`. May be repeated.
    #[arg(long, value_name = "NAME: VALUE")]
    pub(in crate::cli) header: Vec<String>,
    /// Use HTTP/2 (RFC 8441).
    #[arg(long)]
    pub(in crate::cli) h2: bool,
    /// The timeout of each step.
    #[arg(long, value_name = "DURATION", default_value = "10s")]
    pub(in crate::cli) timeout: DurationValue,
    /// Print JSON.
    #[arg(long)]
    pub(in crate::cli) json: bool,
    #[command(flatten)]
    pub(in crate::cli) data: DataArgs,
}

#[derive(Debug, Args)]
pub(in crate::cli) struct DoctorArgs {
    /// The configuration file; without it only the machine is checked.
    #[arg(long, value_name = "FILE", env = "LOCKGATE_CONFIG")]
    pub(in crate::cli) config: Option<PathBuf>,
    /// The admin address, if `run` is started with one. Overrides the file.
    #[arg(long, value_name = "ADDRESS", env = "LOCKGATE_ADMIN")]
    pub(in crate::cli) admin: Option<AdminAddress>,
    /// Print JSON.
    #[arg(long)]
    pub(in crate::cli) json: bool,
    #[command(flatten)]
    pub(in crate::cli) data: DataArgs,
}
