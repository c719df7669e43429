//! The configuration file of a command: FILE or `--config`, otherwise `lockgate.toml` in the working directory.
//!
//! Commands that send requests to a running lockgate do not search the working directory: a file that was not named
//! could direct them, and the admin token, to a listener of another user.

use clap::{
    ArgMatches, Args, Command,
    error::{ContextKind, ContextValue, ErrorKind},
    parser::ValueSource,
};
use std::path::{Path, PathBuf};

/// The file of a command that reads a configuration.
#[derive(Debug, Clone, Default, Args)]
pub(crate) struct ConfigFileArgs {
    /// The configuration file. Default: `lockgate.toml` in the working directory, if it exists.
    #[arg(value_name = "FILE")]
    file: Option<PathBuf>,
    /// The configuration file, in place of FILE.
    #[arg(long, value_name = "FILE", env = "LOCKGATE_CONFIG")]
    config: Option<PathBuf>,
}

// === impl ConfigFileArgs ===

impl ConfigFileArgs {
    /// Returns the file; FILE overrides the environment.
    pub(crate) fn path(&self) -> Option<&Path> {
        self.file.as_deref().or(self.config.as_deref())
    }

    /// Returns FILE as it was written.
    pub(crate) fn positional(&mut self) -> &mut Option<PathBuf> {
        &mut self.file
    }

    /// Selects the default file unless a file was given. Returns whether there is a file now.
    ///
    /// A directory or a broken link of that name is selected, too: reading it is an error that names it.
    pub(crate) fn find_default(&mut self) -> bool {
        if self.path().is_none() && is_in_working_directory() {
            self.file = Some(DEFAULT_FILE.into());
        }
        self.path().is_some()
    }
}

/// Returns whether the working directory has a configuration.
pub(crate) fn is_in_working_directory() -> bool {
    Path::new(DEFAULT_FILE).symlink_metadata().is_ok()
}

/// Returns an error if a file is given twice. One in the environment is overridden.
pub(crate) fn check_given_once(
    mut matches: &ArgMatches,
    mut command: &Command,
) -> Result<(), clap::Error> {
    while let Some((name, subcommand)) = matches.subcommand() {
        matches = subcommand;
        command = command.find_subcommand(name).unwrap_or(command);
    }
    let is_given = |id| matches!(matches.try_contains_id(id), Ok(true));
    if !is_given("file")
        || !is_given("config")
        || matches.value_source("config") != Some(ValueSource::CommandLine)
    {
        return Ok(());
    }
    let mut error = clap::Error::new(ErrorKind::ArgumentConflict).with_cmd(command);
    for (kind, value) in [
        (ContextKind::InvalidArg, "[FILE]"),
        (ContextKind::PriorArg, "--config <FILE>"),
    ] {
        error.insert(kind, ContextValue::String(value.to_owned()));
    }
    let usage = command.clone().render_usage();
    error.insert(ContextKind::Usage, ContextValue::StyledStr(usage));
    Err(error)
}

/// The name of the configuration file that commands find by themselves.
pub(crate) const DEFAULT_FILE: &str = "lockgate.toml";
