//! The commands, one file each; the only module that uses `anyhow` and prints. `args.rs` has their arguments, which
//! `command_line.rs` reads. `usage.rs` completes errors of the command line, with the tips of `tips.rs`.

pub(crate) mod announcement;
pub(crate) mod args;
pub(crate) mod cert;
pub(crate) mod check;
pub(crate) mod client;
pub(crate) mod command_line;
pub(crate) mod completions;
pub(crate) mod config_file;
pub(crate) mod demo;
pub(crate) mod doctor;
pub(crate) mod explain;
pub(crate) mod files;
pub(crate) mod help;
pub(crate) mod man;
pub(crate) mod manual;
pub(crate) mod output;
pub(crate) mod probe;
pub(crate) mod progress;
pub(crate) mod run;
pub(crate) mod startup;
pub(crate) mod tips;
pub(crate) mod usage;
pub(crate) mod wrapped;

use crate::{
    cli::{
        args::{CertCommand, CliCommand},
        client::sessions,
        help::HelpTopic,
        output::{EX_USAGE, print},
    },
    config,
    net::crypto,
    observe::logging::ErrorChain,
};
use std::process::ExitCode;

/// Parses the arguments, runs the command, and returns the exit code: 0 for success, 1 for failure, 64 for an invalid
/// configuration or command line (`EX_USAGE` of sysexits.h).
pub fn main() -> ExitCode {
    let topic = HelpTopic::read();
    if let Some(topic @ HelpTopic::Key(_)) = &topic {
        return topic.print();
    }
    let arguments = match command_line::read(manual::command()) {
        Ok(arguments) => arguments,
        Err(error) => {
            // clap returns help and version as errors that print to stdout.
            let _ = error.print();
            if let Some(topic) = topic {
                return topic.print();
            }
            return if error.use_stderr() {
                ExitCode::from(EX_USAGE)
            } else {
                ExitCode::SUCCESS
            };
        }
    };
    crypto::install_provider();
    let result = match arguments.command {
        CliCommand::Demo(demo) => demo::demo(*demo),
        CliCommand::Run(run) => run::run(*run),
        CliCommand::Check(check) => check::check(&check),
        CliCommand::Explain(explain) => explain::explain(&explain),
        CliCommand::Probe(probe) => probe::probe(&probe),
        CliCommand::Doctor(doctor) => doctor::doctor(&doctor),
        CliCommand::Schema { markdown } => {
            let text = if markdown {
                config::reference()
            } else {
                config::schema()
            };
            print(text.trim_end());
            Ok(ExitCode::SUCCESS)
        }
        CliCommand::Completions { shell } => Ok(completions::completions(shell)),
        CliCommand::Man { out } => man::man(out.as_deref()),
        CliCommand::Health(admin) => client::health(&admin.into_admin()),
        CliCommand::Status { admin, json } => client::status(&admin.into_admin(), json),
        CliCommand::Drain(drain) => client::drain(&drain),
        CliCommand::Sessions(sessions) => sessions::sessions(&sessions),
        CliCommand::Kick(kick) => sessions::kick(&kick),
        CliCommand::Tap(tap) => sessions::tap(&tap),
        CliCommand::Reload(admin) => client::reload(&admin.into_admin()),
        CliCommand::Cert(CertCommand::List { admin, json }) => {
            client::certificates(&admin.into_admin(), json)
        }
        CliCommand::Cert(CertCommand::Renew { host, wait, admin }) => {
            client::renew(&admin, &host, wait)
        }
        CliCommand::Cert(CertCommand::Ca(data)) => cert::ca(&data),
        CliCommand::Cert(CertCommand::Trust(data)) => cert::trust(&data),
    };
    result.unwrap_or_else(|error| {
        eprintln!("lockgate: {}", ErrorChain(&*error));
        ExitCode::FAILURE
    })
}
