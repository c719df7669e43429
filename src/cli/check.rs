//! `lockgate check`: reports the errors that `run` would report, without running, and warnings.

use crate::{
    cli::{
        args::CheckArgs,
        cert,
        files::read_files,
        output::{EX_USAGE, print},
    },
    config::{Config, Diagnostics},
    gateway::Gateway,
};
use anyhow::Context;
use std::process::ExitCode;

/// Loads and builds the configuration as `run` does, and prints all diagnostics.
pub(crate) fn check(arguments: &CheckArgs) -> anyhow::Result<ExitCode> {
    let file = arguments.file.path().context("no configuration file")?;
    let (path, data) = (file.to_owned(), arguments.data.data.clone());
    let checked = read_files(move || match Config::load_with_warnings(&path) {
        Ok((config, warnings)) => {
            let dev = config.tls.dev_ca.then(|| cert::peek(data.as_deref()));
            let dev = dev.transpose()?;
            let gateway = Gateway::build(&config, None, &cert::issuers(dev.as_ref()));
            anyhow::Ok(gateway.map(|gateway| {
                let list = warnings.list.iter().cloned();
                let list = list.chain(gateway.certificates.warnings()).collect();
                (gateway, Diagnostics { list, ..warnings })
            }))
        }
        Err(diagnostics) => Ok(Err(diagnostics)),
    })??;
    match checked {
        Ok((_, warnings)) if arguments.json => print(warnings.json()),
        Ok((gateway, warnings)) => {
            if !warnings.list.is_empty() {
                eprintln!("{warnings}");
            }
            let file = file.display();
            match gateway.router.rules().count() {
                1 => print(format_args!("{file} is valid: 1 route")),
                n => print(format_args!("{file} is valid: {n} routes")),
            }
        }
        Err(diagnostics) => {
            if arguments.json {
                print(diagnostics.json())
            } else {
                eprintln!("{diagnostics}")
            }
            return Ok(ExitCode::from(EX_USAGE));
        }
    }
    Ok(ExitCode::SUCCESS)
}
