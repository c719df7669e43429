//! Where a running lockgate is asked, and the token that it is shown. That is no flag: the list of processes would show it
//! to everybody.

use crate::{
    cli::args::AdminArgs,
    config::{AdminAddress, Config, Server},
};
use anyhow::{Context, bail};
use hyper::header::HeaderValue;
use std::env;

/// As given, or else as the configuration file has it, or where a lockgate answers that was told nothing.
///
/// # Errors
/// If that file is wrong: nobody else may get an order that was meant for one.
pub(super) fn address(admin: &AdminArgs) -> anyhow::Result<AdminAddress> {
    match (&admin.admin, &admin.config) {
        (Some(given), _) => Ok(given.clone()),
        (None, None) => Ok(by_default()),
        (None, Some(file)) => match Config::load(file) {
            Ok(config) => Ok(config.server.admin.value),
            Err(problems) => bail!(
                "{problems}\nso it is not known where its lockgate answers: name server.admin with --admin"
            ),
        },
    }
}

/// For whoever has no time for what is wrong with files: a process is well or not whatever stands there by now.
pub(super) fn address_or_default(admin: &AdminArgs) -> AdminAddress {
    address(admin).unwrap_or_else(|_| by_default())
}

fn by_default() -> AdminAddress {
    Server::default().admin.value
}

/// From the environment, or else from the configuration file; `None` where neither has one, or where
/// the file cannot be read.
pub(super) fn token(admin: &AdminArgs) -> Option<String> {
    let set = env::var(VARIABLE).ok().filter(|token| !token.is_empty());
    set.or_else(|| {
        let config = Config::load(admin.config.as_ref()?).ok()?;
        let token = config.server.admin_token.expose();
        (!token.is_empty()).then(|| token.to_owned())
    })
}

/// As a header.
pub(super) fn header(token: &str) -> anyhow::Result<HeaderValue> {
    let mut value = HeaderValue::try_from(format!("Bearer {token}"))
        .with_context(|| format!("{VARIABLE} cannot stand in a header"))?;
    value.set_sensitive(true);
    Ok(value)
}

/// What to do where one is wanted, or another than was shown.
pub(super) fn hint(shown: bool) -> &'static str {
    match shown {
        true => {
            "that is not its server.admin_token: look at LOCKGATE_ADMIN_TOKEN, or at the file that --config names"
        }
        false => {
            "it wants server.admin_token: set LOCKGATE_ADMIN_TOKEN to it, or name its configuration file with --config (which \
             must be right, with all variables that it takes from the environment)"
        }
    }
}

const VARIABLE: &str = "LOCKGATE_ADMIN_TOKEN";
