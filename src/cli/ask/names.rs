//! Resolves names of routes and backends of a running lockgate as users write them.

use super::send_request;
use crate::{cli::args::AdminArgs, config::BackendAddress};
use anyhow::{Context, bail};
use hyper::Method;
use serde_json::Value;

/// Returns a backend address in the spelling of `lockgate status`.
///
/// # Errors
/// If it is a `dns://` or `srv://` name: that stands for several backends.
pub(super) fn backend(written: &str) -> anyhow::Result<String> {
    if written.starts_with("dns://") || written.starts_with("srv://") {
        bail!(
            "{written} is a name in DNS, and not one backend: give an address of it, as `lockgate status` shows them"
        );
    }
    // Text that is no address is passed on: the server, which knows all backends, reports it.
    let address = written.parse::<BackendAddress>();
    Ok(address.map_or_else(|_| written.to_owned(), |it| it.to_string()))
}

/// Fails if there is no such route or backend. Called only if no session matches: sessions of a route that a reload has
/// removed may still be live.
pub(super) fn known(
    admin: &AdminArgs,
    route: &Option<String>,
    address: &Option<String>,
) -> anyhow::Result<()> {
    if route.is_none() && address.is_none() {
        return Ok(());
    }
    let text = send_request(admin, Method::GET, "/status")?;
    let status: Value = serde_json::from_str(&text).context("an answer that is no JSON")?;
    if let Some(route) = route {
        found("route", route, &status["routes"], "name")?;
    }
    if let Some(address) = address {
        found(
            "backend",
            &backend(address)?,
            &status["backends"],
            "address",
        )?;
    }
    Ok(())
}

fn found(what: &str, wanted: &str, list: &Value, key: &str) -> anyhow::Result<()> {
    let rows = list.as_array().into_iter().flatten();
    let mut names: Vec<&str> = rows.filter_map(|row| row[key].as_str()).collect();
    names.sort_unstable();
    names.dedup();
    if names.contains(&wanted) {
        return Ok(());
    }
    match names.len() {
        0 => bail!("there is no {what} {wanted}: there is none at all"),
        1..=SHOWN => bail!("there is no {what} {wanted}; there is {}", names.join(", ")),
        _ => bail!("there is no {what} {wanted}: `lockgate status` shows them"),
    }
}

/// The maximum number of names listed; a longer list would not be read.
const SHOWN: usize = 8;

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn a_backend_is_written_as_it_is_shown() {
        assert_eq!(
            backend("WS://LocalHost:8765").unwrap(),
            "ws://localhost:8765"
        );
        assert_eq!(backend("chat").unwrap(), "chat");
        assert!(backend("dns://chat:8765").is_err());
    }

    #[test]
    fn who_is_not_there_is_told_who_is() {
        let list = json!([{ "name": "b" }, { "name": "a" }, { "name": "b" }]);
        assert!(found("route", "a", &list, "name").is_ok());
        let error = found("route", "c", &list, "name").unwrap_err().to_string();
        assert_eq!(error, "there is no route c; there is a, b");
        assert!(found("route", "c", &json!([]), "name").is_err());
    }
}
