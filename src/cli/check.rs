//! `lockgate check`: reports the errors that `run` would report, without running.

use crate::{
    cli::{
        args::CheckArgs,
        cert,
        output::{EX_USAGE, print},
    },
    config::Config,
    gateway::Gateway,
};
use std::process::ExitCode;

/// Loads and builds the configuration as `run` does, and prints all diagnostics.
pub(crate) fn check(arguments: &CheckArgs) -> anyhow::Result<ExitCode> {
    let checked = match Config::load(&arguments.config) {
        Ok(config) => {
            let dev = config
                .tls
                .dev_ca
                .then(|| cert::peek(arguments.data.data.as_deref()))
                .transpose()?;
            Gateway::build(&config, None, &cert::issuers(dev.as_ref()))
        }
        Err(diagnostics) => Err(diagnostics),
    };
    match checked {
        Ok(_) if arguments.json => print("[]"),
        Ok(gateway) => {
            for (file, problem) in gateway.certificates.date_problems() {
                eprintln!("warning: certificate {file}: {problem}");
            }
            let file = arguments.config.display();
            match gateway.router.rules().count() {
                1 => print(format_args!("{file} is valid: 1 route")),
                n => print(format_args!("{file} is valid: {n} routes")),
            }
        }
        Err(diagnostics) => {
            match arguments.json {
                true => print(diagnostics.json()),
                false => eprintln!("{diagnostics}"),
            }
            return Ok(ExitCode::from(EX_USAGE));
        }
    }
    Ok(ExitCode::SUCCESS)
}
