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
    /// The host name that clients use. Default: any. May be repeated.
    #[arg(
        long,
        value_name = "NAME",
        env = "LOCKGATE_HOST",
        value_delimiter = ','
    )]
    pub(in crate::cli) host: Vec<HostPattern>,
    /// The address to listen on for TLS. Default: `[::]:8443`. May be repeated.
    #[arg(
        long,
        value_name = "ADDRESS",
        env = "LOCKGATE_LISTEN",
        value_delimiter = ','
    )]
    pub(in crate::cli) listen: Vec<ListenAddress>,
    /// Obtain certificates by ACME from Let's Encrypt, with this contact mail address. Changes the default ports to 443 and 80.
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
    /// A PEM file with the root certificate that verifies the HTTPS server of a private CA.
    #[arg(
        long,
        value_name = "FILE",
        env = "LOCKGATE_ACME_CA_FILE",
        requires = "acme"
    )]
    pub(in crate::cli) acme_ca_file: Option<PathBuf>,
    /// An origin whose pages may open WebSockets. Default: the same host. May be repeated.
    #[arg(
        long,
        value_name = "ORIGIN",
        env = "LOCKGATE_ORIGIN",
        value_delimiter = ','
    )]
    pub(in crate::cli) origin: Vec<OriginPattern>,
    /// Replace the lockgate that runs on the admin address. The new process takes over its listening sockets, so no connection
    /// is refused; the sessions of the old process are closed one by one. All other arguments must be those of the running
    /// process. If the new process cannot start, the old one continues. On SIGUSR2, lockgate restarts itself this way.
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
    /// The admin address: a loopback address, unix:/path, or off. Overrides the file.
    #[arg(long, value_name = "ADDRESS", env = "LOCKGATE_ADMIN")]
    pub(in crate::cli) admin: Option<AdminAddress>,
    /// The access log: stdout, off, or a path. Overrides the file.
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
    /// The address to listen on for TLS. Default: `127.0.0.1:8443`.
    #[arg(long, value_name = "ADDRESS", env = "LOCKGATE_LISTEN")]
    pub(in crate::cli) listen: Option<ListenAddress>,
    #[command(flatten)]
    pub(in crate::cli) overrides: Overrides,
    #[command(flatten)]
    pub(in crate::cli) data: DataArgs,
}
