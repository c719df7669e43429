//! Errors of the command line. clap's errors are completed with what it does not know: alternative flags, words of
//! other servers (`tips.rs`), and flags that come from the environment.

use crate::cli::{
    config_file::{self, DEFAULT_FILE},
    tips,
};
use clap::{
    Command,
    builder::StyledStr,
    error::{ContextKind, ContextValue, ErrorKind},
};
use std::{env, ffi::OsString, path::Path};

/// Completes an error that `root` returned for `arguments`, which begin with the program's name.
pub(crate) fn explain(
    mut error: clap::Error,
    mut root: Command,
    arguments: &[OsString],
) -> clap::Error {
    root.build();
    let words: Vec<&str> = arguments
        .iter()
        .skip(1)
        .map(|word| word.to_str().unwrap_or_default())
        .collect();
    let (mut command, mut rest) = (&root, &words[..]);
    while let Some((word, after)) = rest.split_first()
        && let Some(subcommand) = command.find_subcommand(word)
    {
        (command, rest) = (subcommand, after);
    }
    if error.get(ContextKind::Usage).is_some() {
        // clap lists the flags that are set, also those that the environment sets, as if they were required.
        let usage = command.clone().render_usage();
        error.insert(ContextKind::Usage, ContextValue::StyledStr(usage));
    }
    let unknown = match error.kind() {
        ErrorKind::MissingRequiredArgument => {
            name_alternatives(&mut error, command);
            None
        }
        ErrorKind::UnknownArgument => strings(error.get(ContextKind::InvalidArg)).pop(),
        ErrorKind::InvalidSubcommand => strings(error.get(ContextKind::InvalidSubcommand)).pop(),
        _ => None,
    };
    if let Some(unknown) = unknown {
        // clap proposes whatever is spelled alike, such as `status` for `start`, or to pass a flag as a file.
        for kind in SUGGESTIONS {
            error.remove(kind);
        }
        let tip = tips::tip(&root, command, &unknown, rest);
        insert_tip(&mut error, tip);
    }
    error
}

fn insert_tip(error: &mut clap::Error, tip: Option<String>) {
    if let Some(tip) = tip {
        let tips = vec![StyledStr::from(tip)];
        error.insert(ContextKind::Suggested, ContextValue::StyledStrs(tips));
    }
}

/// Returns the error for a command without a configuration. `flag` is one that has no effect without a backend.
pub(crate) fn missing_file(command: &Command, flag: Option<&str>) -> clap::Error {
    let mut error = usage_error(ErrorKind::MissingRequiredArgument, command);
    let takes_backend = command.get_arguments().any(|arg| arg.get_id() == "to");
    let required = match (takes_backend, flag) {
        (true, Some(_)) => "--to <ADDRESS>",
        (true, None) => "--to <ADDRESS> or FILE",
        (false, _) => "FILE",
    };
    let required = ContextValue::Strings(vec![required.to_owned()]);
    error.insert(ContextKind::InvalidArg, required);
    let tip = match flag {
        Some(flag) if config_file::is_in_working_directory() => {
            format!("this directory has a configuration: leave out {flag} to use {DEFAULT_FILE}")
        }
        _ => format!("FILE can be left out in a directory that has a {DEFAULT_FILE}"),
    };
    insert_tip(&mut error, Some(tip));
    error
}

/// Returns the error for a FILE that does not exist and is an address, such as ws://127.0.0.1:8765.
pub(crate) fn backend_as_file(file: Option<&Path>, command: &Command) -> Option<clap::Error> {
    let file = file.filter(|file| !file.exists())?.to_str()?;
    let tip = tips::backend_tip(command, file)?;
    let mut error = usage_error(ErrorKind::UnknownArgument, command);
    let shown = ContextValue::String(file.to_owned());
    error.insert(ContextKind::InvalidArg, shown);
    insert_tip(&mut error, Some(tip));
    Some(error)
}

fn usage_error(kind: ErrorKind, command: &Command) -> clap::Error {
    let mut error = clap::Error::new(kind).with_cmd(command);
    let usage = command.clone().render_usage();
    error.insert(ContextKind::Usage, ContextValue::StyledStr(usage));
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

fn strings(value: Option<&ContextValue>) -> Vec<String> {
    match value {
        Some(ContextValue::String(one)) => vec![one.clone()],
        Some(ContextValue::Strings(all)) => all.clone(),
        _ => Vec::new(),
    }
}

/// Required flags with the flag that replaces them.
const ALTERNATIVES: [(&str, &str); 1] = [("--backend <ADDRESS>", "--route <NAME>")];

/// What clap suggests for a word that it does not know.
const SUGGESTIONS: [ContextKind; 4] = [
    ContextKind::SuggestedSubcommand,
    ContextKind::SuggestedArg,
    ContextKind::Suggested,
    ContextKind::TrailingArg,
];
