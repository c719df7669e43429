//! The commands that query or control a running lockgate on its admin address: `lockgate health`, `status`,
//! `reload`, `drain`, `cert list`, `cert renew`, `run --takeover`; `sessions`, `kick` and `tap` are in `sessions.rs`.

pub(crate) mod render;
pub(crate) mod request;
pub(crate) mod sessions;
pub(crate) mod wait;

use crate::{
    admin::listener::describe,
    cli::{
        args::{AdminArgs, DrainArgs},
        client::{
            render::{render_certificates, render_status},
            request::{AdminRequest, DEADLINE, address_or_default, send_request},
        },
        output::print,
    },
    config::{AdminAddress, DurationValue, Secret},
    lifecycle::inherited::Inherited,
};
use anyhow::{Context, bail};
use hyper::{Method, StatusCode};
use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};
use serde_json::Value;
use std::{process::ExitCode, time::Duration};

/// Runs `lockgate health`: checks that the process is alive. Prints nothing if it is.
pub(crate) fn health(admin: &AdminArgs) -> anyhow::Result<ExitCode> {
    send_request(admin, Method::GET, "/healthz")?;
    Ok(ExitCode::SUCCESS)
}

/// Runs `lockgate status`.
pub(crate) fn status(admin: &AdminArgs, json: bool) -> anyhow::Result<ExitCode> {
    show(admin, "/status", json, render_status)
}

/// Runs `lockgate cert list`.
pub(crate) fn certificates(admin: &AdminArgs, json: bool) -> anyhow::Result<ExitCode> {
    show(admin, "/certificates", json, render_certificates)
}

/// Runs `lockgate reload`.
pub(crate) fn reload(admin: &AdminArgs) -> anyhow::Result<ExitCode> {
    print(send_request(admin, Method::POST, "/reload")?.trim_end());
    Ok(ExitCode::SUCCESS)
}

/// Runs the client side of `lockgate run --takeover`: obtains the listening sockets of the running process.
pub(crate) async fn take_over(
    address: &AdminAddress,
    token: &Secret,
    inherited: &mut Inherited,
) -> anyhow::Result<()> {
    let token = Some(token.expose()).filter(|token| !token.is_empty());
    let request = AdminRequest {
        address,
        token,
        method: Method::POST,
        path: "/handover",
    };
    let answer = request.send(DEADLINE).await;
    let (status, text) = answer.context("there is nothing to take over")?;
    let (endpoint, text) = (describe(address), text.trim());
    match StatusCode::from_u16(status) {
        Ok(StatusCode::OK) => {}
        Ok(StatusCode::NOT_FOUND) => bail!(
            "{endpoint} does not support a takeover: is it server.admin of a lockgate of this version? Otherwise restart it"
        ),
        _ => bail!("{endpoint} refused the takeover: {text}"),
    }
    inherited
        .take_over(text)
        .await
        .with_context(|| format!("takeover failed; the lockgate on {endpoint} continues to serve"))
}

/// Returns the process of the lockgate on `address`, such as "process 4711 on 127.0.0.1:9180"; `None` if none answers.
pub(crate) async fn running_process(address: &AdminAddress, token: &Secret) -> Option<String> {
    let token = Some(token.expose()).filter(|token| !token.is_empty());
    let request = AdminRequest {
        address,
        token,
        method: Method::GET,
        path: "/status",
    };
    let (_, text) = request.send(IDENTIFY_DEADLINE).await.ok()?;
    let status: Value = serde_json::from_str(&text).ok()?;
    let process = status["process"].as_u64()?;
    Some(format!("process {process} on {}", describe(address)))
}

/// Runs `lockgate drain`.
pub(crate) fn drain(arguments: &DrainArgs) -> anyhow::Result<ExitCode> {
    let (what, name) = match (&arguments.route, &arguments.backend) {
        (Some(route), _) => ("route", route.clone()),
        (None, backend) => {
            let backend = backend.as_deref().unwrap_or_default();
            ("backend", sessions::backend_address(backend)?)
        }
    };
    sessions::require_known(&arguments.admin, &arguments.route, &arguments.backend)?;
    let name = utf8_percent_encode(&name, NON_ALPHANUMERIC);
    let undo = if arguments.undo { "&undo" } else { "" };
    let path = format!("/drain?{what}={name}{undo}");
    print(send_request(&arguments.admin, Method::POST, &path)?.trim_end());
    match arguments.wait {
        Some(limit) => wait::until_drained(&arguments.admin, &format!("{what}={name}"), limit),
        None => Ok(ExitCode::SUCCESS),
    }
}

/// Runs `lockgate cert renew`.
pub(crate) fn renew(
    admin: &AdminArgs,
    host: &str,
    limit: Option<DurationValue>,
) -> anyhow::Result<ExitCode> {
    let host = host.trim_end_matches('.').to_ascii_lowercase();
    let name = utf8_percent_encode(&host, NON_ALPHANUMERIC);
    let before = limit.map(|_| wait::certificate(admin, &host)).transpose()?;
    let text = send_request(
        admin,
        Method::POST,
        &format!("/certificates/renew?host={name}"),
    )?;
    print(text.trim_end());
    match limit.zip(before) {
        Some((limit, before)) => wait::until_renewed(admin, &host, &before, limit),
        None => Ok(ExitCode::SUCCESS),
    }
}

fn show(
    admin: &AdminArgs,
    path: &str,
    json: bool,
    render: impl Fn(&Value) -> String,
) -> anyhow::Result<ExitCode> {
    let text = send_request(admin, Method::GET, path)?;
    let page: Value = serde_json::from_str(&text).with_context(|| {
        format!(
            "{} does not answer with JSON: is it lockgate that listens there?",
            describe(&address_or_default(admin))
        )
    })?;
    if json {
        print(text.trim_end())
    } else {
        print(render(&page).trim_end())
    }
    Ok(ExitCode::SUCCESS)
}

/// Fetches a page without a token: returns its status and text. `deadline` covers everything from connect to last byte.
pub(crate) async fn get(
    address: &AdminAddress,
    path: &str,
    deadline: Duration,
) -> anyhow::Result<(u16, String)> {
    let request = AdminRequest {
        address,
        token: None,
        method: Method::GET,
        path,
    };
    request.send(deadline).await
}

/// The deadline for identifying the program that has an address.
const IDENTIFY_DEADLINE: Duration = Duration::from_secs(2);

#[cfg(test)]
mod tests;
