//! Arguments of the commands that start a proxy: `run` and `demo`.

use super::DataArgs;
use crate::config::{
    Access, AcmeDirectory, AdminAddress, BackendSource, HostPattern, ListenAddress, LogFormat,
    LogLevel, MailAddress, OriginPattern,
};
use clap::Args;
use std::path::PathBuf;

#[derive(Debug, Args)]
pub(in crate::cli) struct RunArgs {
    /// The configuration file.
    #[arg(long, value_name = "FILE", env = "LOCKGATE_CONFIG", conflicts_with_all = ["to", "host", "listen", "origin"])]
    pub(in crate::cli) config: Option<PathBuf>,
    /// Without a file: the backend to proxy to, such as ws://127.0.0.1:8765.
    #[arg(
        long,
        value_name = "ADDRESS",
        env = "LOCKGATE_TO",
        required_unless_present = "config"
    )]
    pub(in crate::cli) to: Option<BackendSource>,
    /// The name that clients use; any, if none is given. May be repeated.
    #[arg(
        long,
        value_name = "NAME",
        env = "LOCKGATE_HOST",
        value_delimiter = ','
    )]
    pub(in crate::cli) host: Vec<HostPattern>,
    /// Where to listen for TLS; `[::]:8443` if nothing is given. May be repeated.
    #[arg(
        long,
        value_name = "ADDRESS",
        env = "LOCKGATE_LISTEN",
        value_delimiter = ','
    )]
    pub(in crate::cli) listen: Vec<ListenAddress>,
    /// Obtain certificates by ACME from Let's Encrypt, with this contact mail address. Lockgate then listens on 443 and 80.
    #[arg(
        long,
        value_name = "MAIL",
        env = "LOCKGATE_ACME",
        requires = "host",
        conflicts_with = "config"
    )]
    pub(in crate::cli) acme: Option<MailAddress>,
    /// A CA other than Let's Encrypt: "letsencrypt-staging", or the URL of its directory.
    #[arg(
        long,
        value_name = "CA",
        env = "LOCKGATE_ACME_DIRECTORY",
        requires = "acme"
    )]
    pub(in crate::cli) acme_directory: Option<AcmeDirectory>,
    /// A PEM file with the root of a private CA, for the directory's own TLS.
    #[arg(
        long,
        value_name = "FILE",
        env = "LOCKGATE_ACME_CA_FILE",
        requires = "acme"
    )]
    pub(in crate::cli) acme_ca_file: Option<PathBuf>,
    /// Origins of pages that may open WebSockets; by default those of the same host. May be repeated.
    #[arg(
        long,
        value_name = "ORIGIN",
        env = "LOCKGATE_ORIGIN",
        value_delimiter = ','
    )]
    pub(in crate::cli) origin: Vec<OriginPattern>,
    /// Replace the lockgate that answers on the admin address: its listening sockets move to the new process, no connection
    /// is refused, and its sessions are closed one by one. Give the same other arguments as to the running process; if the
    /// new process cannot start, the running one continues. SIGUSR2 makes a running lockgate restart itself this way.
    #[arg(long, env = "LOCKGATE_TAKEOVER")]
    pub(in crate::cli) takeover: bool,
    #[command(flatten)]
    pub(in crate::cli) overrides: Overrides,
    #[command(flatten)]
    pub(in crate::cli) data: DataArgs,
}

/// Arguments that override the configuration.
#[derive(Debug, Clone, Args)]
pub(in crate::cli) struct Overrides {
    /// The admin address: an address on loopback, unix:/path, or off. Overrides the file.
    #[arg(long, value_name = "ADDRESS", env = "LOCKGATE_ADMIN")]
    pub(in crate::cli) admin: Option<AdminAddress>,
    /// The access log: stdout, off, or a file. Overrides the file's key.
    #[arg(long, value_name = "WHERE", env = "LOCKGATE_ACCESS")]
    pub(in crate::cli) access: Option<Access>,
    /// The format of log and access lines: text or json. Overrides the file.
    #[arg(long, value_name = "FORMAT", env = "LOCKGATE_LOG_FORMAT")]
    pub(in crate::cli) log_format: Option<LogFormat>,
    /// The minimum log level: error, warn, info, debug, trace. Overrides the file.
    #[arg(long, value_name = "LEVEL", env = "LOCKGATE_LOG_LEVEL")]
    pub(in crate::cli) log_level: Option<LogLevel>,
}

#[derive(Debug, Args)]
pub(in crate::cli) struct DemoArgs {
    /// Where to listen for TLS; `127.0.0.1:8443` if nothing is given.
    #[arg(long, value_name = "ADDRESS", env = "LOCKGATE_LISTEN")]
    pub(in crate::cli) listen: Option<ListenAddress>,
    #[command(flatten)]
    pub(in crate::cli) overrides: Overrides,
    #[command(flatten)]
    pub(in crate::cli) data: DataArgs,
}
