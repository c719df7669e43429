//! Reads the command line and the environment, and selects the configuration file of the command.

use crate::cli::{
    args::{Arguments, CliCommand},
    config_file::{self, ConfigFileArgs},
    usage,
};
use clap::{Command, FromArgMatches, error::ErrorKind};
use std::{env, ffi::OsString, mem, path::PathBuf};

/// Returns the arguments of `command`, or an error that names what to write instead.
pub(crate) fn read(command: Command) -> Result<Arguments, clap::Error> {
    let words: Vec<OsString> = env::args_os().collect();
    let command = without_empty_variables(command);
    parse(&command, &words).map_err(|error| {
        // clap's message names flags that the user may not have written.
        if error.kind() == ErrorKind::ArgumentConflict {
            for name in usage::conflicting_variables(&error, &command) {
                eprintln!("note: {name} is set in the environment and counts as its flag");
            }
        }
        usage::explain(error, command, &words)
    })
}

fn parse(command: &Command, words: &[OsString]) -> Result<Arguments, clap::Error> {
    let matches = command.clone().try_get_matches_from(words)?;
    let mut built = command.clone();
    built.build();
    config_file::check_given_once(&matches, &built)?;
    let mut arguments = Arguments::from_arg_matches(&matches)?;
    find_file(&mut arguments.command, &built)?;
    Ok(arguments)
}

/// Selects `lockgate.toml` in the working directory for a command that needs a configuration and got none.
///
/// # Errors
/// If there is no such file, or if FILE is the address of a backend.
fn find_file(arguments: &mut CliCommand, command: &Command) -> Result<(), clap::Error> {
    let subcommand = |name| command.find_subcommand(name).unwrap_or(command);
    match arguments {
        CliCommand::Run(run) => {
            let flags = [
                ("--host", !run.host.is_empty()),
                ("--listen", !run.listen.is_empty()),
                ("--origin", !run.origin.is_empty()),
            ];
            require_source(&mut run.file, run.to.is_some(), &flags, subcommand("run"))
        }
        CliCommand::Explain(explain) => {
            // Both orders: a URL has a scheme.
            let is_url = |text: &str| text.contains("://");
            if let Some(file) = explain.file.positional()
                && let Some(url) = file.to_str().filter(|file| is_url(file))
                && !is_url(&explain.url)
            {
                let url = url.to_owned();
                *file = PathBuf::from(mem::replace(&mut explain.url, url));
            }
            let flags = [
                ("--host", !explain.host.is_empty()),
                ("--origin", !explain.origin.is_empty()),
            ];
            let has_backend = explain.to.is_some();
            require_source(
                &mut explain.file,
                has_backend,
                &flags,
                subcommand("explain"),
            )
        }
        CliCommand::Check(check) => {
            require_source(&mut check.file, false, &[], subcommand("check"))
        }
        CliCommand::Doctor(doctor) => {
            doctor.file.find_default();
            Ok(())
        }
        _ => Ok(()),
    }
}

/// Fails unless there is a backend or a file. `flags` describe a route without a file, and whether they are set.
fn require_source(
    file: &mut ConfigFileArgs,
    has_backend: bool,
    flags: &[(&str, bool)],
    command: &Command,
) -> Result<(), clap::Error> {
    if let Some(error) = usage::backend_as_file(file.positional().as_deref(), command) {
        return Err(error);
    }
    let flag = flags.iter().find(|(_, is_set)| *is_set);
    let has_file = file.path().is_some() || flag.is_none() && !has_backend && file.find_default();
    if has_backend || has_file {
        return Ok(());
    }
    Err(usage::missing_file(command, flag.map(|(name, _)| *name)))
}

/// Ignores the environment variable of each argument for which it is empty.
fn without_empty_variables(command: Command) -> Command {
    let is_empty = |arg: &clap::Arg| {
        let value = arg.get_env().and_then(env::var_os);
        value.is_some_and(|value| value.is_empty())
    };
    command
        .mut_args(|arg| if is_empty(&arg) { arg.env(None) } else { arg })
        .mut_subcommands(without_empty_variables)
}
