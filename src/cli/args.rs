//! The command line. Every flag of `run` also reads an environment variable, for use as a sidecar. An empty variable
//! counts as unset, because compose files and manifests cannot omit one conditionally. `command_line.rs` reads both.

use crate::{
    cli::config_file::ConfigFileArgs,
    config::{
        Access, AcmeDirectory, AdminAddress, BackendSource, Cidr, DurationValue, HostPattern,
        ListenAddress, Located, LogFormat, LogLevel, MailAddress, OriginPattern, Server,
    },
};
use anyhow::{Context, bail};
use clap::{Args, Parser, Subcommand, ValueEnum};
use http::{HeaderName, HeaderValue, Uri};
use std::{net::IpAddr, path::PathBuf};

/// A TLS-terminating reverse proxy made for WebSockets.
///
/// It runs in front of a plain ws:// server, for example a Python one, and makes it available as wss://.
#[derive(Debug, Parser)]
#[command(version, arg_required_else_help = true, max_term_width = 100)]
pub(crate) struct Arguments {
    #[command(subcommand)]
    pub(crate) command: CliCommand,
}

#[derive(Debug, Subcommand)]
pub(crate) enum CliCommand {
    /// Run a demo: a chat between two browser tabs at https://localhost:8443. Needs no server and no configuration.
    Demo(Box<DemoArgs>),
    /// Run the proxy, configured by flags or by a file.
    Run(Box<RunArgs>),
    /// Check a configuration file, and print all its errors with line and column. Starts nothing.
    Check(CheckArgs),
    /// Explain which route matches a request, why the others do not, and what the backend would receive. Sends nothing.
    Explain(ExplainArgs),
    /// Open a WebSocket step by step, and print the result and the duration of each step.
    Probe(ProbeArgs),
    /// Find problems of this machine and of a configuration: limits, clock, ports, names, backends, certificates.
    /// Without a configuration only the machine is checked.
    Doctor(DoctorArgs),
    /// Print the JSON schema of the configuration file, for editors.
    Schema {
        /// Print the configuration reference as Markdown instead.
        #[arg(long)]
        markdown: bool,
    },
    /// Print a completion script for a shell.
    Completions {
        /// The shell: bash, zsh or fish.
        // A list of the values would have empty paragraphs in the manual page.
        #[arg(hide_possible_values = true)]
        shell: CompletionShell,
    },
    /// Print the manual page, or write the pages of all commands to a folder.
    Man {
        /// The folder, which is created if it is absent.
        #[arg(long, value_name = "FOLDER")]
        out: Option<PathBuf>,
    },
    /// Check that a running lockgate is alive, as the HEALTHCHECK of a container. Exits with 0 and no output if it is,
    /// otherwise with 1 and the reason. Does not check backends.
    Health(AdminFileArgs),
    /// Show listeners, routes, backends and sessions of a running lockgate.
    Status {
        #[command(flatten)]
        admin: AdminFileArgs,
        /// Print JSON.
        #[arg(long)]
        json: bool,
    },
    /// Reload the configuration of a running lockgate, and print the result. Lockgate also watches its files, and
    /// reloads them without this command.
    Reload(AdminFileArgs),
    /// Drain a route or a backend of a running lockgate: it receives no new sessions, and its sessions are closed one
    /// by one.
    Drain(DrainArgs),
    /// List the live sessions of a running lockgate: client, route, backend, age and traffic.
    Sessions(SessionsArgs),
    /// Close sessions of a running lockgate now, with a close code and a reason: one by its id, or all that match a
    /// filter.
    Kick(KickArgs),
    /// Show the frames that a running lockgate relays: sender, kind, size and content. Works for routes with
    /// `tap = true`.
    Tap(TapArgs),
    /// Manage the certificates of a running lockgate, and the development CA.
    #[command(subcommand)]
    Cert(CertCommand),
}

/// A shell whose completion is tested.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum CompletionShell {
    Bash,
    Zsh,
    Fish,
}

#[derive(Debug, Args)]
pub(crate) struct DataArgs {
    /// The folder for the development CA and for certificates obtained with `--acme`. Default: in the user's data
    /// folder.
    #[arg(long, value_name = "FOLDER", env = "LOCKGATE_DATA")]
    pub(crate) data: Option<PathBuf>,
}

#[derive(Debug, Subcommand)]
pub(crate) enum CertCommand {
    /// List the certificate of every host: its expiry, the next attempt to renew it, and the last error.
    List {
        #[command(flatten)]
        admin: AdminFileArgs,
        /// Print JSON.
        #[arg(long)]
        json: bool,
    },
    /// Order a new certificate by ACME now, without waiting for the next attempt.
    Renew {
        /// The host, as `lockgate cert list` shows it.
        host: String,
        /// Wait for the certificate, at most this long.
        #[arg(long, value_name = "DURATION")]
        wait: Option<DurationValue>,
        #[command(flatten)]
        admin: AdminArgs,
    },
    /// Print the path of the development CA's certificate. Creates the CA if there is none yet.
    Ca(DataArgs),
    /// Make this machine trust the development CA for all users, and print how to undo it. Needs root. On an unknown
    /// system, print the steps instead.
    Trust(DataArgs),
}

#[derive(Debug, Args)]
pub(crate) struct RunArgs {
    #[command(flatten)]
    pub(crate) file: ConfigFileArgs,
    /// Without a file: the backend to proxy to, such as ws://127.0.0.1:8765.
    #[arg(
        long,
        value_name = "ADDRESS",
        env = "LOCKGATE_TO",
        conflicts_with_all = ["file", "config"]
    )]
    pub(crate) to: Option<BackendSource>,
    /// The host name that clients use. Default: any, with a certificate for localhost, 127.0.0.1 and ::1 only. May be
    /// repeated.
    #[arg(
        long,
        value_name = "NAME",
        env = "LOCKGATE_HOST",
        value_delimiter = ',',
        conflicts_with_all = ["file", "config"]
    )]
    pub(crate) host: Vec<HostPattern>,
    /// The address to listen on for TLS. Default: `[::]:8443`. May be repeated.
    #[arg(
        long,
        value_name = "ADDRESS",
        env = "LOCKGATE_LISTEN",
        value_delimiter = ',',
        conflicts_with_all = ["file", "config"]
    )]
    pub(crate) listen: Vec<ListenAddress>,
    /// Obtain certificates by ACME from Let's Encrypt, with this contact mail address. Changes the default ports to 443
    /// and 80.
    #[arg(
        long,
        value_name = "MAIL",
        env = "LOCKGATE_ACME",
        requires = "host",
        conflicts_with_all = ["file", "config"]
    )]
    pub(crate) acme: Option<MailAddress>,
    /// A CA other than Let's Encrypt: "letsencrypt-staging", or the URL of its directory.
    #[arg(
        long,
        value_name = "CA",
        env = "LOCKGATE_ACME_DIRECTORY",
        requires = "acme"
    )]
    pub(crate) acme_directory: Option<AcmeDirectory>,
    /// A PEM file with the root certificate that verifies the HTTPS server of a private CA.
    #[arg(
        long,
        value_name = "FILE",
        env = "LOCKGATE_ACME_CA_FILE",
        requires = "acme"
    )]
    pub(crate) acme_ca_file: Option<PathBuf>,
    /// An origin whose pages may open WebSockets. Default: the same host. May be repeated.
    #[arg(
        long,
        value_name = "ORIGIN",
        env = "LOCKGATE_ORIGIN",
        value_delimiter = ',',
        conflicts_with_all = ["file", "config"]
    )]
    pub(crate) origin: Vec<OriginPattern>,
    /// Replace the lockgate that runs on the admin address. The new process takes over its listening sockets, so no
    /// connection is refused; the sessions of the old process are closed one by one. All other arguments must be those
    /// of the running process. If the new process cannot start, the old one continues. On SIGUSR2, lockgate restarts
    /// itself this way.
    #[arg(long, env = "LOCKGATE_TAKEOVER")]
    pub(crate) takeover: bool,
    #[command(flatten)]
    pub(crate) overrides: Overrides,
    #[command(flatten)]
    pub(crate) data: DataArgs,
}

/// Arguments that override the configuration.
#[derive(Debug, Clone, Args)]
pub(crate) struct Overrides {
    /// The admin address: a loopback address, unix:/path, or off. Overrides the file.
    #[arg(long, value_name = "ADDRESS", env = "LOCKGATE_ADMIN")]
    pub(crate) admin: Option<AdminAddress>,
    /// The access log: stdout, off, or a path. Overrides the file.
    #[arg(long, value_name = "WHERE", env = "LOCKGATE_ACCESS")]
    pub(crate) access: Option<Access>,
    /// The format of log and access lines: text or json. Overrides the file.
    #[arg(long, value_name = "FORMAT", env = "LOCKGATE_LOG_FORMAT")]
    pub(crate) log_format: Option<LogFormat>,
    /// The minimum log level: error, warn, info, debug, trace. Overrides the file.
    #[arg(long, value_name = "LEVEL", env = "LOCKGATE_LOG_LEVEL")]
    pub(crate) log_level: Option<LogLevel>,
}

#[derive(Debug, Args)]
pub(crate) struct DemoArgs {
    /// The address to listen on for TLS. Default: `127.0.0.1:8443`.
    #[arg(long, value_name = "ADDRESS", env = "LOCKGATE_LISTEN")]
    pub(crate) listen: Option<ListenAddress>,
    #[command(flatten)]
    pub(crate) overrides: Overrides,
    #[command(flatten)]
    pub(crate) data: DataArgs,
}

#[derive(Debug, Args)]
pub(crate) struct CheckArgs {
    #[command(flatten)]
    pub(crate) file: ConfigFileArgs,
    /// Print JSON.
    #[arg(long)]
    pub(crate) json: bool,
    #[command(flatten)]
    pub(crate) data: DataArgs,
}

#[derive(Debug, Args)]
pub(crate) struct ExplainArgs {
    /// The URL that a client would request, such as wss://chat.example.com/ws/room; https:// for plain HTTP.
    pub(crate) url: String,
    #[command(flatten)]
    pub(crate) file: ConfigFileArgs,
    /// Without a file: the backend, as for `run`.
    #[arg(long, value_name = "ADDRESS", conflicts_with_all = ["file", "config"])]
    pub(crate) to: Option<BackendSource>,
    /// The host name, as for `run`. May be repeated.
    #[arg(
        long,
        value_name = "NAME",
        value_delimiter = ',',
        conflicts_with_all = ["file", "config"]
    )]
    pub(crate) host: Vec<HostPattern>,
    /// An allowed origin, as for `run`. May be repeated.
    #[arg(
        long,
        value_name = "ORIGIN",
        value_delimiter = ',',
        conflicts_with_all = ["file", "config"]
    )]
    pub(crate) origin: Vec<OriginPattern>,
    /// A header that the client sends, such as `Origin: https://example.com`. May be repeated.
    #[arg(long, value_name = "NAME: VALUE")]
    pub(crate) header: Vec<String>,
    /// A subprotocol that the client offers. May be repeated.
    #[arg(long, value_name = "NAME")]
    pub(crate) protocol: Vec<String>,
    /// The address from which the request arrives: that of the client or of the last proxy; with
    /// server.proxy_protocol, the address in the PROXY header. X-Forwarded-For counts if it is in
    /// server.trusted_proxies.
    #[arg(long, value_name = "ADDRESS", default_value = "127.0.0.1")]
    pub(crate) from: IpAddr,
    /// Print JSON.
    #[arg(long)]
    pub(crate) json: bool,
    #[command(flatten)]
    pub(crate) data: DataArgs,
}

#[derive(Debug, Args)]
pub(crate) struct ProbeArgs {
    /// The URL to open, such as wss://chat.example.com/ws.
    pub(crate) url: String,
    /// Trust only the CA certificates in this PEM file. Default: the public CAs and this user's development CA.
    #[arg(long, value_name = "FILE")]
    pub(crate) ca: Option<PathBuf>,
    /// A subprotocol to offer. May be repeated.
    #[arg(long, value_name = "NAME")]
    pub(crate) protocol: Vec<String>,
    /// A header to send, such as `Origin: https://example.com`. May be repeated.
    #[arg(long, value_name = "NAME: VALUE")]
    pub(crate) header: Vec<String>,
    /// Use HTTP/2 (RFC 8441).
    #[arg(long)]
    pub(crate) h2: bool,
    /// The timeout of each step.
    #[arg(long, value_name = "DURATION", default_value = "10s")]
    pub(crate) timeout: DurationValue,
    /// Print JSON.
    #[arg(long)]
    pub(crate) json: bool,
    #[command(flatten)]
    pub(crate) data: DataArgs,
}

#[derive(Debug, Args)]
pub(crate) struct DoctorArgs {
    #[command(flatten)]
    pub(crate) file: ConfigFileArgs,
    /// The admin address, if `run` is started with one. Overrides the file.
    #[arg(long, value_name = "ADDRESS", env = "LOCKGATE_ADMIN")]
    pub(crate) admin: Option<AdminAddress>,
    /// Print JSON.
    #[arg(long)]
    pub(crate) json: bool,
    #[command(flatten)]
    pub(crate) data: DataArgs,
}

#[derive(Debug, Args)]
pub(crate) struct DrainArgs {
    /// The backend's address as shown by `lockgate status`, such as ws://10.0.0.1:8765. Applies to all pools.
    #[arg(
        long,
        value_name = "ADDRESS",
        required_unless_present = "route",
        conflicts_with = "route"
    )]
    pub(crate) backend: Option<String>,
    /// The route's name.
    #[arg(long, value_name = "NAME")]
    pub(crate) route: Option<String>,
    /// End the drain: accept new sessions again.
    #[arg(long)]
    pub(crate) undo: bool,
    /// Wait until every session has ended, at most this long; sessions that are open then are a failure.
    #[arg(long, value_name = "DURATION", conflicts_with = "undo")]
    pub(crate) wait: Option<DurationValue>,
    #[command(flatten)]
    pub(crate) admin: AdminArgs,
}

#[derive(Debug, Args)]
pub(crate) struct AdminArgs {
    /// The admin address of the running lockgate. Default: that of --config, otherwise 127.0.0.1:9180.
    #[arg(long, value_name = "ADDRESS", env = "LOCKGATE_ADMIN")]
    pub(crate) admin: Option<AdminAddress>,
    /// The configuration file of the running lockgate, from which `server.admin` and `server.admin_token` are read.
    /// LOCKGATE_ADMIN_TOKEN overrides the token.
    #[arg(long, value_name = "FILE", env = "LOCKGATE_CONFIG")]
    pub(crate) config: Option<PathBuf>,
}

/// The arguments of commands for a running lockgate that have no other operand.
#[derive(Debug, Args)]
pub(crate) struct AdminFileArgs {
    /// The configuration file of the running lockgate, in place of --config.
    #[arg(value_name = "FILE")]
    file: Option<PathBuf>,
    #[command(flatten)]
    admin: AdminArgs,
}

/// A filter for sessions: all given conditions must hold.
#[derive(Debug, Args)]
pub(crate) struct FilterArgs {
    /// Only sessions of this route.
    #[arg(long, value_name = "NAME")]
    pub(crate) route: Option<String>,
    /// Only sessions on this backend, as shown by `lockgate status`, such as ws://10.0.0.1:8765.
    #[arg(long, value_name = "ADDRESS")]
    pub(crate) backend: Option<String>,
    /// Only sessions of this client address or network, such as 10.0.0.0/8.
    #[arg(long, value_name = "ADDRESS")]
    pub(crate) client: Option<Cidr>,
    /// Only sessions of this user or client, as its guard has verified it.
    #[arg(long, value_name = "NAME")]
    pub(crate) subject: Option<String>,
    /// Only sessions older than this, such as 10m.
    #[arg(long, value_name = "DURATION")]
    pub(crate) longer_than: Option<DurationValue>,
}

#[derive(Debug, Args)]
pub(crate) struct SessionsArgs {
    #[command(flatten)]
    pub(crate) filter: FilterArgs,
    /// Show at most this many sessions; 0 means all.
    #[arg(long, value_name = "NUMBER", default_value = "1000")]
    pub(crate) limit: usize,
    /// Print JSON.
    #[arg(long)]
    pub(crate) json: bool,
    #[command(flatten)]
    pub(crate) admin: AdminArgs,
}

#[derive(Debug, Args)]
pub(crate) struct TapArgs {
    /// The id of one session, as shown by `lockgate sessions` and in the access log.
    pub(crate) id: Option<String>,
    #[command(flatten)]
    pub(crate) filter: FilterArgs,
    /// Show this many bytes of each frame, at most 4096.
    #[arg(long, value_name = "NUMBER", default_value = "128")]
    pub(crate) bytes: u16,
    /// Show at most this many frames per second, up to 1000; further frames are only counted.
    #[arg(long, value_name = "NUMBER", default_value = "100")]
    pub(crate) rate: u16,
    /// How long to show frames, at most 1h.
    #[arg(long = "for", value_name = "DURATION", default_value = "60s")]
    pub(crate) lasting: DurationValue,
    /// Print one JSON object per line.
    #[arg(long)]
    pub(crate) json: bool,
    #[command(flatten)]
    pub(crate) admin: AdminArgs,
}

#[derive(Debug, Args)]
pub(crate) struct KickArgs {
    /// The id of one session, as shown by `lockgate sessions` and in the access log.
    pub(crate) id: Option<String>,
    #[command(flatten)]
    pub(crate) filter: FilterArgs,
    /// Close every live session.
    #[arg(long)]
    pub(crate) all: bool,
    /// The close code sent to clients (RFC 6455 §7.4); backends receive 1001.
    #[arg(long, value_name = "CODE", default_value = "1008")]
    pub(crate) code: u16,
    /// The close reason, at most 123 bytes.
    #[arg(long, value_name = "TEXT", default_value = "")]
    pub(crate) reason: String,
    #[command(flatten)]
    pub(crate) admin: AdminArgs,
}

// === impl AdminFileArgs ===

impl AdminFileArgs {
    /// Returns the arguments with FILE in place of `--config`.
    pub(crate) fn into_admin(self) -> AdminArgs {
        AdminArgs {
            config: self.file.or(self.admin.config),
            ..self.admin
        }
    }
}

// === impl Overrides ===

impl Overrides {
    /// Overrides configured values with those given as flags.
    pub(crate) fn apply(self, server: &mut Server) {
        if let Some(admin) = self.admin {
            server.admin = Located::nowhere(admin);
        }
        if let Some(access) = self.access {
            server.access = access;
        }
        server.log.format = self.log_format.unwrap_or(server.log.format);
        server.log.level = self.log_level.unwrap_or(server.log.level);
    }
}

/// Parses a `--header`, such as "Name: value".
pub(crate) fn parse_header(line: &str) -> anyhow::Result<(HeaderName, HeaderValue)> {
    let parts = line.split_once(':');
    let parsed = parts.and_then(|(name, value)| {
        let name: HeaderName = name.trim().parse().ok()?;
        Some((name, value.trim()))
    });
    let (name, value) = parsed.with_context(|| {
        format!(
            "`{line}` is not a header: write NAME: VALUE, such as \"Origin: https://example.com\""
        )
    })?;
    let value = HeaderValue::from_str(value)
        .with_context(|| format!("`{value}` is not a valid header value"))?;
    Ok((name, value))
}

/// Parses a URL with a host and one of `schemes`. An error proposes the URL with the first of them.
pub(crate) fn parse_url(text: &str, schemes: &[&str]) -> anyhow::Result<Uri> {
    let (scheme, rest) = match text.split_once("://") {
        Some((scheme, rest)) => (Some(scheme), rest),
        None => (None, text),
    };
    let parsed = text.parse::<Uri>().ok().filter(|uri| uri.host().is_some());
    let is_allowed = scheme.is_some_and(|scheme| schemes.contains(&scheme));
    if let Some(uri) = parsed.filter(|_| is_allowed) {
        return Ok(uri);
    }
    let fault = if is_allowed {
        "is not a URL".to_owned()
    } else {
        // The first two: the others are not for clients of a TLS port.
        let schemes: Vec<String> = schemes
            .iter()
            .take(2)
            .map(|scheme| format!("{scheme}://"))
            .collect();
        format!("does not begin with {}", schemes.join(" or "))
    };
    let proposed = format!("{}://{rest}", schemes[0]);
    let is_url = !is_allowed
        && proposed
            .parse::<Uri>()
            .is_ok_and(|uri| uri.host().is_some());
    let proposed = if is_url { &*proposed } else { EXAMPLE_URL };
    bail!("`{text}` {fault}: write it as {proposed}")
}

const EXAMPLE_URL: &str = "wss://chat.example.com/ws";
