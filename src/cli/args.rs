//! The command line. Every flag of `run` also reads an environment variable: the sidecar's way. An empty one counts as
//! unset, for that is how compose files and manifests leave one out.

mod running;
mod sessions;

pub(super) use running::{Admin, Drain};
pub(super) use sessions::{Kick, Sessions, Tap, Wanted};

use crate::config::{
    AcmeDirectory, AdminAddress, BackendSource, HostPattern, ListenAddress, LogFormat, LogLevel,
    MailAddress, OriginPattern, Period,
};
use clap::{Args, CommandFactory, FromArgMatches, Parser, Subcommand, error::ErrorKind};
use std::{env, net::IpAddr, path::PathBuf};

/// A TLS-terminating reverse proxy made for WebSockets.
///
/// It stands in front of a plain ws:// server, most often a Python one, and gives it wss://.
#[derive(Debug, Parser)]
#[command(
    version,
    arg_required_else_help = true,
    after_help = "To see it:             lockgate demo\nIn front of a server:  lockgate run --to ws://127.0.0.1:8765"
)]
pub(super) struct Arguments {
    #[command(subcommand)]
    pub(super) command: Command,
}

#[derive(Debug, Subcommand)]
pub(super) enum Command {
    /// Try it: a chat on https://localhost:8443 in which two tabs talk over wss. Needs nothing else.
    Demo(Box<Demo>),
    /// Run the proxy, from flags or from a file.
    Run(Box<Run>),
    /// Say what is wrong with a configuration file: all at once, with line and column. Starts nothing.
    Check(Check),
    /// Say which route takes a request, why the others do not, and what its backend will get. Sends nothing.
    Explain(Explain),
    /// Open a WebSocket step by step, and say how each step went and how long it took.
    Probe(Probe),
    /// Say what on this machine, or in a configuration, will be in the way.
    Doctor(Doctor),
    /// Print the JSON schema of the configuration file, for editors.
    Schema {
        /// Print the reference for people instead.
        #[arg(long)]
        markdown: bool,
    },
    /// Ask a running lockgate whether it is alive; for a container's HEALTHCHECK. The answer is the exit code: 0, silently, if
    /// it is, 1 with the reason if not. Never looks at a backend.
    Health(Admin),
    /// Show listeners, routes, backends and sessions of a running lockgate.
    Status {
        #[command(flatten)]
        admin: Admin,
        /// As JSON.
        #[arg(long)]
        json: bool,
    },
    /// Have a running lockgate read its configuration again, and say what came of it. Files are watched: it does so by
    /// itself when one changes.
    Reload(Admin),
    /// Have a route or a backend of a running lockgate finish: its sessions are closed one by one, and it takes no new ones.
    Drain(Drain),
    /// List the live sessions of a running lockgate: who, where to, since when, and how much has passed.
    Sessions(Sessions),
    /// Close sessions of a running lockgate now, with a code and a reason: one by its id, or all of a kind.
    Kick(Kick),
    /// Show frames of a running lockgate as they pass, of routes that have `tap = true`: who sent what, of which kind and size.
    Tap(Tap),
    /// Certificates: those of a running lockgate, and the development CA's.
    #[command(subcommand)]
    Cert(CertCommand),
}

#[derive(Debug, Args)]
pub(super) struct Run {
    /// The configuration file.
    #[arg(long, value_name = "FILE", env = "LOCKGATE_CONFIG", conflicts_with_all = ["to", "host", "listen", "origin"])]
    pub(super) config: Option<PathBuf>,
    /// Without a file: the server to stand in front of, such as ws://127.0.0.1:8765.
    #[arg(
        long,
        value_name = "ADDRESS",
        env = "LOCKGATE_TO",
        required_unless_present = "config"
    )]
    pub(super) to: Option<BackendSource>,
    /// The name that clients use; any, if none is given. May be repeated.
    #[arg(
        long,
        value_name = "NAME",
        env = "LOCKGATE_HOST",
        value_delimiter = ','
    )]
    pub(super) host: Vec<HostPattern>,
    /// Where to listen for TLS; `[::]:8443` if nothing is given. May be repeated.
    #[arg(
        long,
        value_name = "ADDRESS",
        env = "LOCKGATE_LISTEN",
        value_delimiter = ','
    )]
    pub(super) listen: Vec<ListenAddress>,
    /// Certificates by ACME, from Let's Encrypt, which may write to this mail address. It listens on 443 and 80 then.
    #[arg(
        long,
        value_name = "MAIL",
        env = "LOCKGATE_ACME",
        requires = "host",
        conflicts_with = "config"
    )]
    pub(super) acme: Option<MailAddress>,
    /// Another CA than Let's Encrypt: "letsencrypt-staging", or the URL of its directory.
    #[arg(
        long,
        value_name = "CA",
        env = "LOCKGATE_ACME_DIRECTORY",
        requires = "acme"
    )]
    pub(super) acme_directory: Option<AcmeDirectory>,
    /// A PEM file with the root of a private CA, for the directory's own TLS.
    #[arg(
        long,
        value_name = "FILE",
        env = "LOCKGATE_ACME_CA_FILE",
        requires = "acme"
    )]
    pub(super) acme_ca_file: Option<PathBuf>,
    /// Pages that may open WebSockets; those of the same host, if nothing is given. May be repeated.
    #[arg(
        long,
        value_name = "ORIGIN",
        env = "LOCKGATE_ORIGIN",
        value_delimiter = ','
    )]
    pub(super) origin: Vec<OriginPattern>,
    /// Take the place of the lockgate that answers on the admin address: its listening sockets move over, no connection is
    /// refused, and its sessions are closed one by one. The other arguments are those of that one; if this one cannot start,
    /// that one goes on. SIGUSR2 has a running one start anew with this.
    #[arg(long, env = "LOCKGATE_TAKEOVER")]
    pub(super) takeover: bool,
    #[command(flatten)]
    pub(super) overrides: Overrides,
    #[command(flatten)]
    pub(super) data: Data,
}

/// What beats the configuration.
#[derive(Debug, Clone, Args)]
pub(super) struct Overrides {
    /// Where status is answered: an address on loopback, unix:/path, or off. Beats the file.
    #[arg(long, value_name = "ADDRESS", env = "LOCKGATE_ADMIN")]
    pub(super) admin: Option<AdminAddress>,
    /// Where access lines go: stdout, off, or a file. Beats the file's key.
    #[arg(long, value_name = "WHERE", env = "LOCKGATE_ACCESS")]
    pub(super) access: Option<crate::config::Access>,
    /// How log and access lines are written: text or json. Beats the file.
    #[arg(long, value_name = "FORMAT", env = "LOCKGATE_LOG_FORMAT")]
    pub(super) log_format: Option<LogFormat>,
    /// The least level that is logged: error, warn, info, debug, trace. Beats the file.
    #[arg(long, value_name = "LEVEL", env = "LOCKGATE_LOG_LEVEL")]
    pub(super) log_level: Option<LogLevel>,
}

#[derive(Debug, Args)]
pub(super) struct Demo {
    /// Where to listen for TLS; `127.0.0.1:8443` if nothing is given.
    #[arg(long, value_name = "ADDRESS", env = "LOCKGATE_LISTEN")]
    pub(super) listen: Option<ListenAddress>,
    #[command(flatten)]
    pub(super) overrides: Overrides,
    #[command(flatten)]
    pub(super) data: Data,
}

#[derive(Debug, Args)]
pub(super) struct Check {
    /// The configuration file.
    #[arg(long, value_name = "FILE", env = "LOCKGATE_CONFIG")]
    pub(super) config: PathBuf,
    /// As JSON, for machines.
    #[arg(long)]
    pub(super) json: bool,
    #[command(flatten)]
    pub(super) data: Data,
}

#[derive(Debug, Args)]
pub(super) struct Explain {
    /// What a client would ask for, such as wss://chat.example.com/ws/room, or https:// for plain HTTP.
    pub(super) url: String,
    /// The configuration file.
    #[arg(long, value_name = "FILE", env = "LOCKGATE_CONFIG")]
    pub(super) config: PathBuf,
    /// A header that the client sends, such as `Origin: https://example.com`. May be repeated.
    #[arg(long, value_name = "NAME: VALUE")]
    pub(super) header: Vec<String>,
    /// A subprotocol that the client offers. May be repeated.
    #[arg(long, value_name = "NAME")]
    pub(super) protocol: Vec<String>,
    /// The client's address.
    #[arg(long, value_name = "ADDRESS", default_value = "127.0.0.1")]
    pub(super) from: IpAddr,
    /// As JSON, for machines.
    #[arg(long)]
    pub(super) json: bool,
    #[command(flatten)]
    pub(super) data: Data,
}

#[derive(Debug, Args)]
pub(super) struct Probe {
    /// Where to, such as wss://chat.example.com/ws.
    pub(super) url: String,
    /// Trust only the certificates of this PEM file; otherwise the public ones and the development CA of this user.
    #[arg(long, value_name = "FILE")]
    pub(super) ca: Option<PathBuf>,
    /// A subprotocol to offer. May be repeated.
    #[arg(long, value_name = "NAME")]
    pub(super) protocol: Vec<String>,
    /// A header to send, such as `Origin: https://example.com`. May be repeated.
    #[arg(long, value_name = "NAME: VALUE")]
    pub(super) header: Vec<String>,
    /// Over HTTP/2 (RFC 8441).
    #[arg(long)]
    pub(super) h2: bool,
    /// How long a step may take.
    #[arg(long, value_name = "DURATION", default_value = "10s")]
    pub(super) timeout: Period,
    /// As JSON, for machines.
    #[arg(long)]
    pub(super) json: bool,
    #[command(flatten)]
    pub(super) data: Data,
}

#[derive(Debug, Args)]
pub(super) struct Doctor {
    /// The configuration file; without it only the machine is looked at.
    #[arg(long, value_name = "FILE", env = "LOCKGATE_CONFIG")]
    pub(super) config: Option<PathBuf>,
    /// The admin address, where `run` is given one. Beats the file.
    #[arg(long, value_name = "ADDRESS", env = "LOCKGATE_ADMIN")]
    pub(super) admin: Option<AdminAddress>,
    /// As JSON, for machines.
    #[arg(long)]
    pub(super) json: bool,
    #[command(flatten)]
    pub(super) data: Data,
}

#[derive(Debug, Args)]
pub(super) struct Data {
    /// The folder of the development CA, and of what `--acme` gets; by default in the user's data folder.
    #[arg(long, value_name = "FOLDER", env = "LOCKGATE_DATA")]
    pub(super) data: Option<PathBuf>,
}

#[derive(Debug, Subcommand)]
pub(super) enum CertCommand {
    /// What every host is served with, until when, and what a CA said last.
    List {
        #[command(flatten)]
        admin: Admin,
        /// As JSON, for machines.
        #[arg(long)]
        json: bool,
    },
    /// Have a new certificate ordered by ACME now, without waiting for the next attempt.
    Renew {
        /// The host, as `lockgate cert list` shows it.
        host: String,
        #[command(flatten)]
        admin: Admin,
    },
    /// Print the file of the CA's certificate; it is made if there is none yet.
    Ca(Data),
    /// Make this machine trust the CA where that can be done from here (as root on Debian, Fedora and their kin, at once
    /// and for everybody); elsewhere say how. It tells how to undo it.
    Trust(Data),
}

// === impl Arguments ===

impl Arguments {
    /// Reads the command line and the environment.
    pub(super) fn read() -> Result<Arguments, clap::Error> {
        let command = without_empty_variables(Arguments::command());
        let matches = command.try_get_matches();
        let arguments = matches.and_then(|matches| Arguments::from_arg_matches(&matches));
        arguments.inspect_err(|error| {
            // It names flags that nobody may have written.
            if error.kind() == ErrorKind::ArgumentConflict {
                for name in set_variables() {
                    eprintln!("note: {name} is set in the environment and counts as its flag");
                }
            }
        })
    }
}

fn without_empty_variables(command: clap::Command) -> clap::Command {
    let is_empty = |arg: &clap::Arg| {
        let value = arg.get_env().and_then(env::var_os);
        value.is_some_and(|value| value.is_empty())
    };
    command
        .mut_args(|arg| match is_empty(&arg) {
            true => arg.env(None),
            false => arg,
        })
        .mut_subcommands(without_empty_variables)
}

fn set_variables() -> impl Iterator<Item = String> {
    let ours = |(name, value): (std::ffi::OsString, std::ffi::OsString)| {
        let name = name.into_string().ok()?;
        (name.starts_with("LOCKGATE_") && !value.is_empty()).then_some(name)
    };
    env::vars_os().filter_map(ours)
}
