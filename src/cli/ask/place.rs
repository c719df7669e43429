//! Finds the admin address and the token of a running lockgate. The token has no flag, because the process list is visible to
//! every user.

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
/// If the configuration file is invalid. The default address would be a guess, and could be that of another lockgate.
pub(super) fn address(admin: &AdminArgs) -> anyhow::Result<AdminAddress> {
    match (&admin.admin, &admin.config) {
        (Some(given), _) => Ok(given.clone()),
        (None, None) => Ok(default_address()),
        (None, Some(file)) => match Config::load(file) {
            Ok(config) => Ok(config.server.admin.value),
            Err(diagnostics) => {
                bail!("{diagnostics}\nso the admin address is unknown: give it with --admin")
            }
        },
    }
}

/// Returns the address, or the default if the file is invalid: the health of a process does not depend on its current file.
pub(super) fn address_or_default(admin: &AdminArgs) -> AdminAddress {
    address(admin).unwrap_or_else(|_| default_address())
}

fn default_address() -> AdminAddress {
    Server::default().admin.value
}

/// Returns the token from the environment, otherwise from the configuration file; `None` if neither has one, or if
/// the file cannot be read.
pub(super) fn token(admin: &AdminArgs) -> Option<String> {
    let from_env = env::var(TOKEN_VARIABLE)
        .ok()
        .filter(|token| !token.is_empty());
    from_env.or_else(|| {
        let config = Config::load(admin.config.as_ref()?).ok()?;
        let token = config.server.admin_token.expose();
        (!token.is_empty()).then(|| token.to_owned())
    })
}

/// Returns the token as an Authorization header value.
pub(super) fn header(token: &str) -> anyhow::Result<HeaderValue> {
    let mut value = HeaderValue::try_from(format!("Bearer {token}"))
        .with_context(|| format!("{TOKEN_VARIABLE} is not a valid header value"))?;
    value.set_sensitive(true);
    Ok(value)
}

/// Returns the advice after a 401: the token is wrong, or, without one (`has_token`), required.
pub(super) fn hint(has_token: bool) -> &'static str {
    match has_token {
        true => {
            "the token is wrong: compare LOCKGATE_ADMIN_TOKEN, or the file given with --config, with server.admin_token"
        }
        false => {
            "a token is required: set LOCKGATE_ADMIN_TOKEN to server.admin_token, or give the configuration file with --config (it \
             must be valid, and the environment variables that it uses must be set)"
        }
    }
}

const TOKEN_VARIABLE: &str = "LOCKGATE_ADMIN_TOKEN";
