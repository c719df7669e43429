//! Finds the admin address of a running lockgate, and the token to present. The token has no flag: the process list would
//! show it to every user.

use crate::{
    cli::args::AdminArgs,
    config::{AdminAddress, Config, Server},
};
use anyhow::{Context, bail};
use hyper::header::HeaderValue;
use std::env;

/// Returns the address as given, otherwise that of the configuration file, otherwise the default admin address.
///
/// # Errors
/// If the configuration file is invalid: a command must not reach a different lockgate than the one intended.
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

/// Returns the address without reporting file errors: whether a process is healthy does not depend on the current file.
pub(super) fn address_or_default(admin: &AdminArgs) -> AdminAddress {
    address(admin).unwrap_or_else(|_| by_default())
}

fn by_default() -> AdminAddress {
    Server::default().admin.value
}

/// Returns the token from the environment, otherwise from the configuration file; `None` if neither has one, or if
/// the file cannot be read.
pub(super) fn token(admin: &AdminArgs) -> Option<String> {
    let set = env::var(VARIABLE).ok().filter(|token| !token.is_empty());
    set.or_else(|| {
        let config = Config::load(admin.config.as_ref()?).ok()?;
        let token = config.server.admin_token.expose();
        (!token.is_empty()).then(|| token.to_owned())
    })
}

/// Returns the token as an Authorization header value.
pub(super) fn header(token: &str) -> anyhow::Result<HeaderValue> {
    let mut value = HeaderValue::try_from(format!("Bearer {token}"))
        .with_context(|| format!("{VARIABLE} cannot stand in a header"))?;
    value.set_sensitive(true);
    Ok(value)
}

/// The advice if a token is required, or if the presented one is wrong.
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
