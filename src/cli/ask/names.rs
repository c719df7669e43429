//! Checks names of routes and backends against a running lockgate.

use super::send_request;
use crate::{cli::args::AdminArgs, config::BackendAddress};
use anyhow::{Context, bail};
use hyper::Method;
use serde_json::Value;

/// Returns a backend address in the spelling of `lockgate status`.
///
/// # Errors
/// If it is a `dns://` or `srv://` name, which stands for several backends.
pub(super) fn backend(written: &str) -> anyhow::Result<String> {
    if written.starts_with("dns://") || written.starts_with("srv://") {
        bail!(
            "{written} is a name in DNS, and not one backend: use one of its addresses, as shown by `lockgate status`"
        );
    }
    // Text that is not an address is passed on: the server knows all backends, and reports an unknown one.
    let address = written.parse::<BackendAddress>();
    Ok(address.map_or_else(|_| written.to_owned(), |it| it.to_string()))
}

/// Fails if there is no such route or backend. Called only after no session has matched, because sessions of a removed
/// route may still be live.
pub(super) fn known(
    admin: &AdminArgs,
    route: &Option<String>,
    address: &Option<String>,
) -> anyhow::Result<()> {
    if route.is_none() && address.is_none() {
        return Ok(());
    }
    let text = send_request(admin, Method::GET, "/status")?;
    let status: Value = serde_json::from_str(&text).context("the answer is not JSON")?;
    if let Some(route) = route {
        require("route", route, &status["routes"], "name")?;
    }
    if let Some(address) = address {
        require(
            "backend",
            &backend(address)?,
            &status["backends"],
            "address",
        )?;
    }
    Ok(())
}

fn require(what: &str, name: &str, list: &Value, key: &str) -> anyhow::Result<()> {
    let rows = list.as_array().into_iter().flatten();
    let mut names: Vec<&str> = rows.filter_map(|row| row[key].as_str()).collect();
    names.sort_unstable();
    names.dedup();
    if names.contains(&name) {
        return Ok(());
    }
    match names.len() {
        0 => bail!("there is no {what} {name}: there are no {what}s"),
        1..=MAX_LISTED => bail!(
            "there is no {what} {name}; the {what}s are: {}",
            names.join(", ")
        ),
        _ => bail!("there is no {what} {name}: `lockgate status` lists the {what}s"),
    }
}

/// The maximum number of names listed in an error.
const MAX_LISTED: usize = 8;

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn backend_address_is_normalised() {
        assert_eq!(
            backend("WS://LocalHost:8765").unwrap(),
            "ws://localhost:8765"
        );
        assert_eq!(backend("chat").unwrap(), "chat");
        assert!(backend("dns://chat:8765").is_err());
    }

    #[test]
    fn unknown_name_error_lists_known_names() {
        let list = json!([{ "name": "b" }, { "name": "a" }, { "name": "b" }]);
        assert!(require("route", "a", &list, "name").is_ok());
        let error = require("route", "c", &list, "name")
            .unwrap_err()
            .to_string();
        assert_eq!(error, "there is no route c; the routes are: a, b");
        assert!(require("route", "c", &json!([]), "name").is_err());
    }
}
