//! `lockgate check`: what `run` would say, without running.

use super::{CONFIG, args::Check, cert, say};
use crate::{config::Config, gateway::Gateway};
use std::process::ExitCode;

/// Loads and builds as `run` does, and reports every problem at once.
pub(super) fn check(arguments: &Check) -> anyhow::Result<ExitCode> {
    let checked = match Config::load(&arguments.config) {
        Ok(config) => {
            let dev = config
                .tls
                .dev_ca
                .then(|| cert::peek(arguments.data.data.as_deref()))
                .transpose()?;
            Gateway::build(&config, None, &cert::issuers(dev.as_ref()))
        }
        Err(problems) => Err(problems),
    };
    match checked {
        Ok(_) if arguments.json => say("[]"),
        Ok(gateway) => {
            let file = arguments.config.display();
            match gateway.router.rules().count() {
                1 => say(format_args!("{file} is fine: 1 route")),
                n => say(format_args!("{file} is fine: {n} routes")),
            }
        }
        Err(problems) => {
            match arguments.json {
                true => say(problems.json()),
                false => eprintln!("{problems}"),
            }
            return Ok(ExitCode::from(CONFIG));
        }
    }
    Ok(ExitCode::SUCCESS)
}
