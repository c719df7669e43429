//! What a running lockgate tells and is told on its admin address: `lockgate health`, `status`, `reload`, `drain`,
//! `sessions`, `kick`, `cert list`, `cert renew`, `run --takeover`.

mod render;
mod sessions;
mod token;

use super::{
    args::{Admin, Drain},
    say,
};
use render::render_certificates;
pub(super) use render::render_status;
pub(super) use sessions::{kick, sessions};

use crate::{
    admin::describe,
    config::{AdminAddress, Secret},
    lifecycle::Inherited,
};
use anyhow::{Context, anyhow, bail};
use http_body_util::{BodyExt, Limited};
use hyper::{
    Method, Request, StatusCode,
    body::Bytes,
    client::conn::http1,
    header::{AUTHORIZATION, HOST},
};
use hyper_util::rt::TokioIo;
use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};
use serde_json::Value;
use std::{future, io, process::ExitCode, time::Duration};
use tokio::{
    io::{AsyncRead, AsyncWrite},
    net::{TcpStream, UnixStream},
    runtime,
    time::timeout,
};

/// `lockgate health`: whether the process serves. Silent if it does.
pub(super) fn health(admin: &Admin) -> anyhow::Result<ExitCode> {
    ask(admin, Method::GET, "/healthz")?;
    Ok(ExitCode::SUCCESS)
}

/// `lockgate status`.
pub(super) fn status(admin: &Admin, json: bool) -> anyhow::Result<ExitCode> {
    show(admin, "/status", json, render_status)
}

/// `lockgate cert list`.
pub(super) fn certificates(admin: &Admin, json: bool) -> anyhow::Result<ExitCode> {
    show(admin, "/certificates", json, render_certificates)
}

/// `lockgate reload`.
pub(super) fn reload(admin: &Admin) -> anyhow::Result<ExitCode> {
    say(ask(admin, Method::POST, "/reload")?.trim_end());
    Ok(ExitCode::SUCCESS)
}

/// `lockgate run --takeover`: has the running one give what it listens with.
pub(super) async fn take_over(
    address: &AdminAddress,
    token: &Secret,
    inherited: &mut Inherited,
) -> anyhow::Result<()> {
    let token = Some(token.expose()).filter(|token| !token.is_empty());
    let (status, text) = send(address, token, Method::POST, "/handover", DEADLINE)
        .await
        .context("there is nothing to take over")?;
    let (place, text) = (describe(address), text.trim());
    match StatusCode::from_u16(status) {
        Ok(StatusCode::OK) => {}
        Ok(StatusCode::NOT_FOUND) => bail!(
            "{place} cannot hand over: is it server.admin of a lockgate of this version? A restart is the other way"
        ),
        _ => bail!("{place} does not hand over: {text}"),
    }
    inherited
        .take_over(text)
        .await
        .with_context(|| format!("the lockgate that answers on {place} goes on"))
}

/// `lockgate drain`.
pub(super) fn drain(arguments: &Drain) -> anyhow::Result<ExitCode> {
    let (what, name) = match (&arguments.route, &arguments.backend) {
        (Some(route), _) => ("route", route.clone()),
        (None, backend) => (
            "backend",
            backend
                .as_ref()
                .map(ToString::to_string)
                .unwrap_or_default(),
        ),
    };
    let name = utf8_percent_encode(&name, NON_ALPHANUMERIC);
    let undo = if arguments.undo { "&undo" } else { "" };
    let path = format!("/drain?{what}={name}{undo}");
    say(ask(&arguments.admin, Method::POST, &path)?.trim_end());
    Ok(ExitCode::SUCCESS)
}

/// `lockgate cert renew`.
pub(super) fn renew(admin: &Admin, host: &str) -> anyhow::Result<ExitCode> {
    let host = host.trim_end_matches('.').to_ascii_lowercase();
    let name = utf8_percent_encode(&host, NON_ALPHANUMERIC);
    let text = ask(
        admin,
        Method::POST,
        &format!("/certificates/renew?host={name}"),
    )?;
    say(text.trim_end());
    Ok(ExitCode::SUCCESS)
}

fn show(
    admin: &Admin,
    path: &str,
    json: bool,
    render: impl Fn(&Value) -> String,
) -> anyhow::Result<ExitCode> {
    let text = ask(admin, Method::GET, path)?;
    let page: Value = serde_json::from_str(&text).with_context(|| {
        format!(
            "{} answers, but not as lockgate does",
            describe(&admin.admin)
        )
    })?;
    match json {
        true => say(text.trim_end()),
        false => say(render(&page).trim_end()),
    }
    Ok(ExitCode::SUCCESS)
}

/// Gets a page: its status and its text, within `deadline` from dial to last byte.
pub(super) async fn get(
    address: &AdminAddress,
    path: &str,
    deadline: Duration,
) -> anyhow::Result<(u16, String)> {
    send(address, None, Method::GET, path, deadline).await
}

async fn send(
    address: &AdminAddress,
    token: Option<&str>,
    method: Method,
    path: &str,
    deadline: Duration,
) -> anyhow::Result<(u16, String)> {
    let place = describe(address);
    let asked = async {
        match address {
            AdminAddress::Off => {
                bail!("server.admin is \"off\": there is nothing to ask")
            }
            AdminAddress::Tcp(tcp) => {
                let stream = TcpStream::connect(tcp).await;
                exchange(
                    stream.map_err(|error| nobody(error, &place))?,
                    token,
                    method,
                    path,
                )
                .await
            }
            AdminAddress::Unix(file) => {
                let stream = UnixStream::connect(file).await;
                exchange(
                    stream.map_err(|error| nobody(error, &place))?,
                    token,
                    method,
                    path,
                )
                .await
            }
        }
    };
    match timeout(deadline, asked).await {
        Ok(answer) => answer,
        Err(_) => bail!(
            "{place} did not answer within {deadline:?}: the process hangs, or something else than lockgate listens there"
        ),
    }
}

fn ask(admin: &Admin, method: Method, path: &str) -> anyhow::Result<String> {
    let address = &admin.admin;
    let runtime = runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .context("cannot start the runtime")?;
    let is_question = method == Method::GET;
    // What is open to everybody is asked without: a health check has no time to read files.
    let token = (path != "/healthz").then(|| token::token(admin)).flatten();
    let (status, text) =
        runtime.block_on(send(address, token.as_deref(), method, path, DEADLINE))?;
    match StatusCode::from_u16(status) {
        Ok(status) if status.is_success() => {}
        Ok(StatusCode::UNAUTHORIZED) => bail!("{}: {}", describe(address), token::HINT),
        // It says why itself.
        Ok(StatusCode::CONFLICT | StatusCode::BAD_REQUEST) if !is_question => {
            bail!("{}", text.trim())
        }
        _ => {
            let place = describe(address);
            bail!("{place} answered {status} to {path}: {}", text.trim());
        }
    }
    Ok(text)
}

async fn exchange(
    stream: impl AsyncRead + AsyncWrite + Send + Unpin + 'static,
    token: Option<&str>,
    method: Method,
    path: &str,
) -> anyhow::Result<(u16, String)> {
    let (mut sender, connection) = http1::handshake(TokioIo::new(stream)).await?;
    // The admin listener wants a name that no web page can have: it need not be the one that was dialled.
    let mut request = Request::builder()
        .method(method)
        .uri(path)
        .header(HOST, "localhost")
        .body(String::new())?;
    if let Some(token) = token {
        let value = token::header(token)?;
        request.headers_mut().insert(AUTHORIZATION, value);
    }
    let answer = async move {
        let response = sender.send_request(request).await?;
        let status = response.status().as_u16();
        let body = Limited::new(response.into_body(), BODY).collect().await;
        let bytes: Bytes = body.map_err(|error| anyhow!(error))?.to_bytes();
        Ok((status, String::from_utf8(bytes.into())?))
    };
    // When it ends, for good or bad, the answer has all that it will get.
    let driver = async {
        let _ = connection.await;
        future::pending().await
    };
    let answered: anyhow::Result<_> = tokio::select! {
        answered = answer => answered,
        never = driver => never,
    };
    answered.context("an answer that cannot be read: is it lockgate that listens there?")
}

fn nobody(error: io::Error, place: &str) -> anyhow::Error {
    match error.kind() {
        io::ErrorKind::ConnectionRefused | io::ErrorKind::NotFound => anyhow!(
            "nothing listens on {place}: is lockgate running, and is server.admin the same?"
        ),
        io::ErrorKind::PermissionDenied => anyhow!(
            "{place} may be opened only by the user that lockgate runs as: run this as that user, or as root"
        ),
        _ => anyhow!(error).context(format!("cannot connect to {place}")),
    }
}

/// Longer than the server may take for its reply, shorter than a container's health check.
const DEADLINE: Duration = Duration::from_secs(5);

/// Bytes of an answer: room for some ten thousand routes and backends.
const BODY: usize = 16 * 1024 * 1024;

#[cfg(test)]
mod tests;
