//! `lockgate man`: manual pages in roff, one for the program and one for each command.

use crate::cli::manual;
use crate::cli::output::print;
use anyhow::Context;
use clap::Command;
use clap_mangen::Man;
use std::{
    env, fs,
    io::{self, Write},
    path::Path,
    process::ExitCode,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

/// Prints the page of the program; with `folder`, writes all pages there.
pub(crate) fn man(folder: Option<&Path>) -> anyhow::Result<ExitCode> {
    let mut command = manual::command().disable_help_subcommand(true);
    command.build();
    let Some(folder) = folder else {
        let mut text = Vec::new();
        page(command).render(&mut text)?;
        // A closed pipe is not an error.
        let _ = io::stdout().write_all(&text);
        return Ok(ExitCode::SUCCESS);
    };
    let written = fs::create_dir_all(folder).and_then(|()| write(command, folder));
    let count =
        written.with_context(|| format!("cannot write manual pages to {}", folder.display()))?;
    print(format_args!(
        "{count} manual pages written; read one with: man -l {}",
        folder.join("lockgate.1").display()
    ));
    Ok(ExitCode::SUCCESS)
}

/// Writes the pages of a command and of the commands inside it. Returns their number.
fn write(command: Command, folder: &Path) -> io::Result<usize> {
    let mut count = 1;
    for inner in command.get_subcommands() {
        count += write(inner.clone(), folder)?;
    }
    page(command).generate_to(folder)?;
    Ok(count)
}

fn page(command: Command) -> Man {
    Man::new(command)
        .date(date())
        .source(concat!("lockgate ", env!("CARGO_PKG_VERSION")))
        .manual("Lockgate Manual")
}

/// Returns the date of the pages: today, or that of `SOURCE_DATE_EPOCH`, so that a package is reproducible.
fn date() -> String {
    let written = env::var("SOURCE_DATE_EPOCH").ok();
    let seconds = written.and_then(|seconds| seconds.parse::<u64>().ok());
    let seconds = seconds.filter(|seconds| *seconds < END_OF_TIME);
    let epoch = seconds.map(|seconds| UNIX_EPOCH.checked_add(Duration::from_secs(seconds)));
    let time = epoch.flatten().unwrap_or_else(SystemTime::now);
    let time = humantime::format_rfc3339_seconds(time).to_string();
    time.chars().take_while(|c| *c != 'T').collect()
}

/// The year 10000, in seconds since 1970: RFC 3339 ends before it.
const END_OF_TIME: u64 = 253_402_300_800;
