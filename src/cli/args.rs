//! The command line. Every flag of `run` also reads an environment variable, for use as a sidecar. An empty variable
//! counts as unset, because compose files and manifests cannot omit one conditionally.

mod inspecting;
mod running;
mod sessions;
mod starting;

pub(super) use inspecting::{CheckArgs, DoctorArgs, ExplainArgs, ProbeArgs};
pub(super) use running::{AdminArgs, DrainArgs};
pub(super) use sessions::{KickArgs, SessionsArgs, TapArgs, Wanted};
pub(super) use starting::{DemoArgs, Overrides, RunArgs};

use clap::{Args, CommandFactory, FromArgMatches, Parser, Subcommand, error::ErrorKind};
use std::{env, path::PathBuf};

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
    pub(super) command: CliCommand,
}

#[derive(Debug, Subcommand)]
pub(super) enum CliCommand {
    /// Try it: a chat on https://localhost:8443 in which two tabs talk over wss. Needs nothing else.
    Demo(Box<DemoArgs>),
    /// Run the proxy, from flags or from a file.
    Run(Box<RunArgs>),
    /// Say what is wrong with a configuration file: all at once, with line and column. Starts nothing.
    Check(CheckArgs),
    /// Say which route takes a request, why the others do not, and what its backend will get. Sends nothing.
    Explain(ExplainArgs),
    /// Open a WebSocket step by step, and say how each step went and how long it took.
    Probe(ProbeArgs),
    /// Say what on this machine, or in a configuration, will be in the way.
    Doctor(DoctorArgs),
    /// Print the JSON schema of the configuration file, for editors.
    Schema {
        /// Print the reference for people instead.
        #[arg(long)]
        markdown: bool,
    },
    /// Check that a running lockgate is alive, for a container's HEALTHCHECK. Exits with 0 and no output if it is, with 1 and
    /// the reason if not. Does not check backends.
    Health(AdminArgs),
    /// Show listeners, routes, backends and sessions of a running lockgate.
    Status {
        #[command(flatten)]
        admin: AdminArgs,
        /// As JSON.
        #[arg(long)]
        json: bool,
    },
    /// Make a running lockgate read its configuration again, and print the result. Files are watched: a change is
    /// reloaded without this command.
    Reload(AdminArgs),
    /// Drain a route or a backend of a running lockgate: its sessions are closed one by one, and it accepts no new ones.
    Drain(DrainArgs),
    /// List the live sessions of a running lockgate: who, where to, since when, and how much has passed.
    Sessions(SessionsArgs),
    /// Close sessions of a running lockgate now, with a code and a reason: one by its id, or all of a kind.
    Kick(KickArgs),
    /// Show frames of a running lockgate as they pass, of routes that have `tap = true`: who sent what, of which kind and size.
    Tap(TapArgs),
    /// Certificates: those of a running lockgate, and the development CA's.
    #[command(subcommand)]
    Cert(CertCommand),
}

#[derive(Debug, Args)]
pub(super) struct DataArgs {
    /// The folder of the development CA, and of what `--acme` gets; by default in the user's data folder.
    #[arg(long, value_name = "FOLDER", env = "LOCKGATE_DATA")]
    pub(super) data: Option<PathBuf>,
}

#[derive(Debug, Subcommand)]
pub(super) enum CertCommand {
    /// What every host is served with, until when, and what a CA said last.
    List {
        #[command(flatten)]
        admin: AdminArgs,
        /// As JSON, for machines.
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
    /// Print the path of the CA's certificate; it is created if there is none yet.
    Ca(DataArgs),
    /// Make this machine trust the CA where that can be done from here (as root on Debian, Fedora and their kin, at once
    /// and for everybody); elsewhere say how. It tells how to undo it.
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
