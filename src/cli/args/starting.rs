//! Flags of what starts a proxy: `run` and `demo`.

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
    /// Without a file: the server to stand in front of, such as ws://127.0.0.1:8765.
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
    /// Certificates by ACME, from Let's Encrypt, which may write to this mail address. It listens on 443 and 80 then.
    #[arg(
        long,
        value_name = "MAIL",
        env = "LOCKGATE_ACME",
        requires = "host",
        conflicts_with = "config"
    )]
    pub(in crate::cli) acme: Option<MailAddress>,
    /// Another CA than Let's Encrypt: "letsencrypt-staging", or the URL of its directory.
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
    /// Pages that may open WebSockets; those of the same host, if nothing is given. May be repeated.
    #[arg(
        long,
        value_name = "ORIGIN",
        env = "LOCKGATE_ORIGIN",
        value_delimiter = ','
    )]
    pub(in crate::cli) origin: Vec<OriginPattern>,
    /// Take the place of the lockgate that answers on the admin address: its listening sockets move over, no connection is
    /// refused, and its sessions are closed one by one. The other arguments are those of that one; if this one cannot start,
    /// that one goes on. SIGUSR2 has a running one start anew with this.
    #[arg(long, env = "LOCKGATE_TAKEOVER")]
    pub(in crate::cli) takeover: bool,
    #[command(flatten)]
    pub(in crate::cli) overrides: Overrides,
    #[command(flatten)]
    pub(in crate::cli) data: DataArgs,
}

/// What beats the configuration.
#[derive(Debug, Clone, Args)]
pub(in crate::cli) struct Overrides {
    /// Where status is answered: an address on loopback, unix:/path, or off. Beats the file.
    #[arg(long, value_name = "ADDRESS", env = "LOCKGATE_ADMIN")]
    pub(in crate::cli) admin: Option<AdminAddress>,
    /// Where access lines go: stdout, off, or a file. Beats the file's key.
    #[arg(long, value_name = "WHERE", env = "LOCKGATE_ACCESS")]
    pub(in crate::cli) access: Option<Access>,
    /// How log and access lines are written: text or json. Beats the file.
    #[arg(long, value_name = "FORMAT", env = "LOCKGATE_LOG_FORMAT")]
    pub(in crate::cli) log_format: Option<LogFormat>,
    /// The least level that is logged: error, warn, info, debug, trace. Beats the file.
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
