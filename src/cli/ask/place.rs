//! Where a running lockgate is asked, and the token that it is shown. That is no flag: the list of processes would show it
//! to everybody.

use crate::{
    cli::args::Admin,
    config::{AdminAddress, Config},
};
use anyhow::Context;
use hyper::header::HeaderValue;
use std::env;

/// As given, or else as the configuration file has it; by default where a lockgate answers that was told nothing. A file
/// that cannot be read has nothing to say: that it is wrong is what one may be about to ask for.
pub(super) fn address(admin: &Admin) -> AdminAddress {
    let written = || Some(Config::load(admin.config.as_ref()?).ok()?.server);
    let given = admin.admin.clone();
    given.unwrap_or_else(|| written().unwrap_or_default().admin.value)
}

/// From the environment, or else from the configuration file; `None` where neither has one, or where
/// the file cannot be read.
pub(super) fn token(admin: &Admin) -> Option<String> {
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

/// What to do where one is wanted.
pub(super) const HINT: &str = "it wants server.admin_token: set LOCKGATE_ADMIN_TOKEN to it, or name the configuration file with --config";

const VARIABLE: &str = "LOCKGATE_ADMIN_TOKEN";
