//! `lockgate completions`: completion scripts for shells.

use crate::cli::args::CompletionShell;
use crate::cli::manual;
use clap_complete::{Generator, Shell, generate};
use std::{
    io::{self, Write},
    process::ExitCode,
};

/// Prints the completion script for a shell.
pub(crate) fn completions(shell: CompletionShell) -> ExitCode {
    let script = match shell {
        CompletionShell::Bash => script(Shell::Bash),
        CompletionShell::Zsh => script(Shell::Zsh),
        CompletionShell::Fish => script(Shell::Fish),
    };
    // A closed pipe is not an error.
    let _ = io::stdout().write_all(&script);
    ExitCode::SUCCESS
}

fn script(shell: impl Generator) -> Vec<u8> {
    let mut script = Vec::new();
    generate(shell, &mut manual::command(), "lockgate", &mut script);
    script
}
