//! The commands; the only home of `anyhow` and of what is printed.

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

use args::{Arguments, CertCommand, Command};
use std::{
    fmt::Display,
    io::{self, Write},
    process::ExitCode,
};

/// Parses the arguments, runs the command, and says how it ended: 0 clean, 1 nothing was started, 64 a wrong
/// configuration or command line (`EX_USAGE` of sysexits.h).
pub fn main() -> ExitCode {
    let arguments = match Arguments::read() {
        Ok(arguments) => arguments,
        Err(error) => {
            // Help and version are errors to clap, but not to the one who asked for them.
            let _ = error.print();
            return if error.use_stderr() {
                ExitCode::from(CONFIG)
            } else {
                ExitCode::SUCCESS
            };
        }
    };
    crate::tls::install_provider();
    let done = match arguments.command {
        Command::Demo(demo) => demo::demo(*demo),
        Command::Run(run) => run::run(*run),
        Command::Check(check) => check::check(&check),
        Command::Explain(explain) => explain::explain(&explain),
        Command::Probe(probe) => probe::probe(&probe),
        Command::Doctor(doctor) => doctor::doctor(&doctor),
        Command::Schema { markdown } => {
            let text = match markdown {
                true => crate::config::reference(),
                false => crate::config::schema(),
            };
            say(text.trim_end());
            Ok(ExitCode::SUCCESS)
        }
        Command::Health(admin) => ask::health(&admin),
        Command::Status { admin, json } => ask::status(&admin, json),
        Command::Drain(drain) => ask::drain(&drain),
        Command::Sessions(sessions) => ask::sessions(&sessions),
        Command::Kick(kick) => ask::kick(&kick),
        Command::Tap(tap) => ask::tap(&tap),
        Command::Reload(admin) => ask::reload(&admin),
        Command::Cert(CertCommand::List { admin, json }) => ask::certificates(&admin, json),
        Command::Cert(CertCommand::Renew { host, admin }) => ask::renew(&admin, &host),
        Command::Cert(CertCommand::Ca(data)) => cert::ca(&data),
        Command::Cert(CertCommand::Trust(data)) => cert::trust(&data),
    };
    done.unwrap_or_else(|error| {
        eprintln!("lockgate: {error:#}");
        ExitCode::FAILURE
    })
}

/// Prints to stdout. A reader that has left, as in `lockgate schema | head`, is no fault.
fn say(text: impl Display) {
    let _ = writeln!(io::stdout(), "{text}");
}

/// Prints to stderr, if there is one: a server's terminal may be long gone.
fn note(text: impl Display) {
    let _ = writeln!(io::stderr(), "{text}");
}

/// The exit code for a wrong command line or configuration.
const CONFIG: u8 = 64;
