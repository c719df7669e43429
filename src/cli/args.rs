//! The command line. Every flag of `run` also reads an environment variable, for use as a sidecar. An empty variable
//! counts as unset, because compose files and manifests cannot omit one conditionally.

mod inspecting;
mod running;
mod sessions;
mod starting;

pub(super) use inspecting::{CheckArgs, DoctorArgs, ExplainArgs, ProbeArgs};
pub(super) use running::{AdminArgs, DrainArgs};
pub(super) use sessions::{FilterArgs, KickArgs, SessionsArgs, TapArgs};
pub(super) use starting::{DemoArgs, Overrides, RunArgs};

use clap::{Args, CommandFactory, FromArgMatches, Parser, Subcommand, error::ErrorKind};
use std::{env, path::PathBuf};

/// A TLS-terminating reverse proxy made for WebSockets.
///
/// It runs in front of a plain ws:// server, for example a Python one, and makes it available as wss://.
#[derive(Debug, Parser)]
#[command(
    version,
    arg_required_else_help = true,
    after_help = "To try it out:         lockgate demo\nIn front of a server:  lockgate run --to ws://127.0.0.1:8765"
)]
pub(super) struct Arguments {
    #[command(subcommand)]
    pub(super) command: CliCommand,
}

#[derive(Debug, Subcommand)]
pub(super) enum CliCommand {
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
    Doctor(DoctorArgs),
    /// Print the JSON schema of the configuration file, for editors.
    Schema {
        /// Print the configuration reference as Markdown instead.
        #[arg(long)]
        markdown: bool,
    },
    /// Check that a running lockgate is alive, as the HEALTHCHECK of a container. Exits with 0 and no output if it is,
    /// otherwise with 1 and the reason. Does not check backends.
    Health(AdminArgs),
    /// Show listeners, routes, backends and sessions of a running lockgate.
    Status {
        #[command(flatten)]
        admin: AdminArgs,
        /// Print JSON.
        #[arg(long)]
        json: bool,
    },
    /// Reload the configuration of a running lockgate, and print the result. Lockgate also watches its files, and reloads them
    /// without this command.
    Reload(AdminArgs),
    /// Drain a route or a backend of a running lockgate: it receives no new sessions, and its sessions are closed one by one.
    Drain(DrainArgs),
    /// List the live sessions of a running lockgate: client, route, backend, age and traffic.
    Sessions(SessionsArgs),
    /// Close sessions of a running lockgate now, with a close code and a reason: one by its id, or all that match a filter.
    Kick(KickArgs),
    /// Show the frames that a running lockgate relays: sender, kind, size and content. Works for routes with `tap = true`.
    Tap(TapArgs),
    /// Manage the certificates of a running lockgate, and the development CA.
    #[command(subcommand)]
    Cert(CertCommand),
}

#[derive(Debug, Args)]
pub(super) struct DataArgs {
    /// The folder for the development CA and for certificates obtained with `--acme`. Default: in the user's data folder.
    #[arg(long, value_name = "FOLDER", env = "LOCKGATE_DATA")]
    pub(super) data: Option<PathBuf>,
}

#[derive(Debug, Subcommand)]
pub(super) enum CertCommand {
    /// List the certificate of every host: its expiry, the next attempt to renew it, and the last error.
    List {
        #[command(flatten)]
        admin: AdminArgs,
        /// Print JSON.
        #[arg(long)]
        json: bool,
    },
    /// Order a new certificate by ACME now, without waiting for the next attempt.
    Renew {
        /// The host, as `lockgate cert list` shows it.
        host: String,
        #[command(flatten)]
        admin: AdminArgs,
    },
    /// Print the path of the development CA's certificate. Creates the CA if there is none yet.
    Ca(DataArgs),
    /// Make this machine trust the development CA for all users, and print how to undo it. Needs root. On an unknown system,
    /// print the steps instead.
    Trust(DataArgs),
}

// === impl Arguments ===

impl Arguments {
    /// Reads the command line and the environment.
    pub(super) fn read() -> Result<Arguments, clap::Error> {
        let command = without_empty_variables(Arguments::command());
        let matches = command.try_get_matches();
        let arguments = matches.and_then(|matches| Arguments::from_arg_matches(&matches));
        arguments.inspect_err(|error| {
            // clap's message names flags that the user may not have written.
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
