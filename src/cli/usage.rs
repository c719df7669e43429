//! Errors of the command line. clap's errors are completed with what it does not know: alternative flags, a
//! configuration file that was given without its flag, and flags that come from the environment.

use clap::{
    Command,
    builder::StyledStr,
    error::{ContextKind, ContextValue, ErrorKind},
};
use std::{env, ffi::OsString, path::Path};

/// Completes an error that `command` returned for `arguments`, which begin with the program's name.
pub(crate) fn explain(
    mut error: clap::Error,
    mut command: Command,
    arguments: &[OsString],
) -> clap::Error {
    command.build();
    let words: Vec<&str> = arguments
        .iter()
        .skip(1)
        .map(|word| word.to_str().unwrap_or_default())
        .collect();
    for word in &words {
        match command.find_subcommand(word) {
            Some(subcommand) => command = subcommand.clone(),
            None => break,
        }
    }
    if error.get(ContextKind::Usage).is_some() {
        // clap lists the flags that are set, also those that the environment sets, as if they were required.
        let usage = command.render_usage();
        error.insert(ContextKind::Usage, ContextValue::StyledStr(usage));
    }
    let tip = match error.kind() {
        ErrorKind::MissingRequiredArgument => {
            name_alternatives(&mut error, &command);
            default_file_tip(&error)
        }
        ErrorKind::UnknownArgument => bare_file_tip(&command, &words),
        _ => None,
    };
    if let Some(tip) = tip {
        let tips = vec![StyledStr::from(tip)];
        error.insert(ContextKind::Suggested, ContextValue::StyledStrs(tips));
    }
    error
}

/// Returns the environment variables whose flags are part of a conflict and not on the command line.
pub(crate) fn conflicting_variables(error: &clap::Error, command: &Command) -> Vec<String> {
    let named = strings(error.get(ContextKind::InvalidArg))
        .into_iter()
        .chain(strings(error.get(ContextKind::PriorArg)));
    let flags: Vec<String> = named
        .filter_map(|shown| Some(shown.strip_prefix("--")?.split(' ').next()?.to_owned()))
        .collect();
    let given = |flag: &str| {
        let written = format!("--{flag}");
        env::args().any(|word| word.split('=').next() == Some(&written))
    };
    let mut variables: Vec<String> = command
        .get_subcommands()
        .flat_map(Command::get_arguments)
        .filter(|arg| {
            let long = arg.get_long();
            long.is_some_and(|long| flags.iter().any(|flag| flag == long) && !given(long))
        })
        .filter_map(clap::Arg::get_env)
        .filter(|name| env::var_os(name).is_some_and(|value| !value.is_empty()))
        .filter_map(|name| name.to_str().map(str::to_owned))
        .collect();
    variables.sort_unstable();
    variables.dedup();
    variables
}

/// Adds the other flag to a required one for which there is a choice.
fn name_alternatives(error: &mut clap::Error, command: &Command) {
    let has = |flag: &str| {
        let mut arguments = command.get_arguments();
        arguments.any(|arg| {
            arg.get_long()
                .is_some_and(|long| flag.starts_with(&format!("--{long} ")))
        })
    };
    let mut required = strings(error.get(ContextKind::InvalidArg));
    for shown in &mut required {
        for (flag, other) in ALTERNATIVES {
            if shown == flag && has(other) {
                *shown = format!("{flag} or {other}");
            }
        }
    }
    error.insert(ContextKind::InvalidArg, ContextValue::Strings(required));
}

/// Returns the tip for a command that lacks a configuration, in a directory that has one.
fn default_file_tip(error: &clap::Error) -> Option<String> {
    let required = strings(error.get(ContextKind::InvalidArg));
    let is_config = required.iter().any(|shown| shown.contains(CONFIG));
    (is_config && Path::new(DEFAULT_FILE).is_file())
        .then(|| format!("this directory has a configuration: --config {DEFAULT_FILE}"))
}

/// Returns the tip for a configuration file that was given without `--config`.
fn bare_file_tip(command: &Command, words: &[&str]) -> Option<String> {
    let file = words.iter().find(|word| word.ends_with(".toml"))?;
    takes_config(command, words).then(|| format!("did you mean --config {file}?"))
}

/// Returns whether the command has `--config`, and the command line has not.
fn takes_config(command: &Command, words: &[&str]) -> bool {
    let is_given = words.iter().any(|word| word.starts_with("--config"));
    let mut arguments = command.get_arguments();
    !is_given && arguments.any(|arg| arg.get_long() == Some("config"))
}

fn strings(value: Option<&ContextValue>) -> Vec<String> {
    match value {
        Some(ContextValue::String(one)) => vec![one.clone()],
        Some(ContextValue::Strings(all)) => all.clone(),
        _ => Vec::new(),
    }
}

/// The flag of the configuration file, as clap shows it.
const CONFIG: &str = "--config <FILE>";

/// Required flags with the flag that replaces them.
const ALTERNATIVES: [(&str, &str); 2] = [
    ("--to <ADDRESS>", CONFIG),
    ("--backend <ADDRESS>", "--route <NAME>"),
];

/// The name that the documentation gives to a configuration file.
const DEFAULT_FILE: &str = "lockgate.toml";
