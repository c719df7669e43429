//! The commands; the only module that uses `anyhow` and prints.

mod args;
mod ask;
mod cert;
mod check;
mod demo;
mod doctor;
mod explain;
mod header;
mod probe;
mod run;

use args::{Arguments, CertCommand, CliCommand};
use std::{
    fmt::Display,
    io::{self, Write},
    process::ExitCode,
};

/// Parses the arguments, runs the command, and returns the exit code: 0 for success, 1 for failure, 64 for an invalid
/// configuration or command line (`EX_USAGE` of sysexits.h).
pub fn main() -> ExitCode {
    let arguments = match Arguments::read() {
        Ok(arguments) => arguments,
        Err(error) => {
            // clap returns help and version as errors that print to stdout.
            let _ = error.print();
            return if error.use_stderr() {
                ExitCode::from(EX_USAGE)
            } else {
                ExitCode::SUCCESS
            };
        }
    };
    crate::tls::install_provider();
    let result = match arguments.command {
        CliCommand::Demo(demo) => demo::demo(*demo),
        CliCommand::Run(run) => run::run(*run),
        CliCommand::Check(check) => check::check(&check),
        CliCommand::Explain(explain) => explain::explain(&explain),
        CliCommand::Probe(probe) => probe::probe(&probe),
        CliCommand::Doctor(doctor) => doctor::doctor(&doctor),
        CliCommand::Schema { markdown } => {
            let text = match markdown {
                true => crate::config::reference(),
                false => crate::config::schema(),
            };
            print(text.trim_end());
            Ok(ExitCode::SUCCESS)
        }
        CliCommand::Health(admin) => ask::health(&admin),
        CliCommand::Status { admin, json } => ask::status(&admin, json),
        CliCommand::Drain(drain) => ask::drain(&drain),
        CliCommand::Sessions(sessions) => ask::sessions(&sessions),
        CliCommand::Kick(kick) => ask::kick(&kick),
        CliCommand::Tap(tap) => ask::tap(&tap),
        CliCommand::Reload(admin) => ask::reload(&admin),
        CliCommand::Cert(CertCommand::List { admin, json }) => ask::certificates(&admin, json),
        CliCommand::Cert(CertCommand::Renew { host, admin }) => ask::renew(&admin, &host),
        CliCommand::Cert(CertCommand::Ca(data)) => cert::ca(&data),
        CliCommand::Cert(CertCommand::Trust(data)) => cert::trust(&data),
    };
    result.unwrap_or_else(|error| {
        eprintln!("lockgate: {error:#}");
        ExitCode::FAILURE
    })
}

/// Prints to stdout. A closed pipe, as in `lockgate schema | head`, is not an error.
fn print(text: impl Display) {
    let _ = writeln!(io::stdout(), "{text}");
}

/// Prints to stderr; errors are ignored, because a server's terminal may be closed.
fn eprint(text: impl Display) {
    let _ = writeln!(io::stderr(), "{text}");
}

/// The exit code for an invalid command line or configuration.
const EX_USAGE: u8 = 64;
