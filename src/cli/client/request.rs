//! Sends one request to an admin address, and returns the answer as a whole or line by line.
//!
//! The address and the token of the running lockgate come from flags, the environment or its configuration file. The
//! token has no flag, because the process list is visible to every user.

use crate::{
    admin::listener::describe,
    cli::args::AdminArgs,
    config::{AdminAddress, Config, Server},
};
use anyhow::{Context, anyhow, bail};
use http_body_util::{BodyExt, Limited};
use hyper::{
    Method, Request, Response, StatusCode,
    body::{Bytes, Incoming},
    client::conn::http1,
    header::{AUTHORIZATION, HOST, HeaderValue},
};
use hyper_util::rt::TokioIo;
use std::{env, future, io, time::Duration};
use tokio::{
    io::{AsyncRead, AsyncWrite},
    net::{TcpStream, UnixStream},
    runtime::{self, Runtime},
    time::timeout,
};

/// A request and the admin address that it goes to.
pub(crate) struct AdminRequest<'a> {
    pub(crate) address: &'a AdminAddress,
    pub(crate) token: Option<&'a str>,
    pub(crate) method: Method,
    pub(crate) path: &'a str,
}

/// A TCP or Unix stream.
trait ClientStreamIo: AsyncRead + AsyncWrite + Send + Unpin {}

impl<S: AsyncRead + AsyncWrite + Send + Unpin> ClientStreamIo for S {}

// === impl AdminRequest ===

impl AdminRequest<'_> {
    /// Sends the request, and returns the answer's status and text. `deadline` covers everything from connect to last
    /// byte.
    pub(crate) async fn send(self, deadline: Duration) -> anyhow::Result<(u16, String)> {
        let endpoint = describe(self.address);
        match timeout(deadline, self.exchange(read_body)).await {
            Ok(answer) => answer,
            Err(_) => bail!(
                "{endpoint} did not answer within {deadline:?}: the process hangs, or another program listens there"
            ),
        }
    }

    /// Sends the request, and calls `on_line` with every line of a 200 answer as it arrives. Returns the status, and
    /// the text of any other answer.
    pub(crate) async fn follow(self, on_line: impl FnMut(&str)) -> anyhow::Result<(u16, String)> {
        self.exchange(async |answer| match answer.status().as_u16() {
            200 => read_lines(answer, on_line)
                .await
                .map(|()| (200, String::new())),
            _ => read_body(answer).await,
        })
        .await
    }

    async fn exchange<T>(
        self,
        read: impl AsyncFnOnce(Response<Incoming>) -> anyhow::Result<T>,
    ) -> anyhow::Result<T> {
        let stream = connect(self.address).await?;
        let (mut sender, connection) = http1::handshake(TokioIo::new(stream)).await?;
        // The admin listener requires a Host that no web page can have. It need not match the address.
        let mut request = Request::builder()
            .method(self.method)
            .uri(self.path)
            .header(HOST, "localhost")
            .body(String::new())?;
        if let Some(token) = self.token {
            let value = header(token)?;
            request.headers_mut().insert(AUTHORIZATION, value);
        }
        let answer = async move { read(sender.send_request(request).await?).await };
        // Drives the connection and never completes: how the connection ends is visible in the answer.
        let driver = async {
            let _ = connection.await;
            future::pending().await
        };
        let answered: anyhow::Result<_> = tokio::select! {
            answered = answer => answered,
            never = driver => never,
        };
        answered.context("cannot read the answer: is it lockgate that listens there?")
    }
}

/// Sends a request to the running lockgate, and returns the text of a successful answer.
pub(crate) fn send_request(
    admin: &AdminArgs,
    method: Method,
    path: &str,
) -> anyhow::Result<String> {
    // `/healthz` needs no token, and must also work if the configuration file is invalid.
    let (address, token) = match path {
        "/healthz" => (address_or_default(admin), None),
        _ => (address(admin)?, token(admin)),
    };
    let address = &address;
    let request = AdminRequest {
        address,
        token: token.as_deref(),
        method,
        path,
    };
    let deadline = match path {
        "/reload" => RELOAD_DEADLINE,
        _ => DEADLINE,
    };
    let (status, text) = build_runtime()?.block_on(request.send(deadline))?;
    check_response(address, path, token.is_some(), status, text)
}

/// Returns the text of a successful answer; fails with the reason otherwise. `has_token`: the request carried a token.
pub(crate) fn check_response(
    address: &AdminAddress,
    path: &str,
    has_token: bool,
    status: u16,
    text: String,
) -> anyhow::Result<String> {
    match StatusCode::from_u16(status) {
        Ok(status) if status.is_success() => Ok(text),
        Ok(StatusCode::UNAUTHORIZED) => {
            bail!("{}: {}", describe(address), hint(has_token))
        }
        // The answer contains the reason.
        Ok(StatusCode::CONFLICT | StatusCode::FORBIDDEN) => bail!("{}", text.trim()),
        Ok(StatusCode::BAD_REQUEST) => bail!("{}", flag_names(text.trim())),
        Ok(StatusCode::NOT_FOUND) if text.starts_with("there is no such session") => {
            bail!("{}", text.trim())
        }
        _ => {
            let endpoint = describe(address);
            let path = path.split('?').next().unwrap_or_default();
            bail!("{endpoint} answered {status} to {path}: {}", text.trim());
        }
    }
}

/// Replaces the names of query parameters in an error by those of the flags that set them.
fn flag_names(text: &str) -> String {
    let mut text = text.to_owned();
    for (parameter, flag) in [
        ("`bytes`", "--bytes"),
        ("`rate`", "--rate"),
        ("`lasting`", "--for"),
        ("`limit`", "--limit"),
    ] {
        text = text.replace(parameter, flag);
    }
    text
}

/// Builds the runtime for one request.
pub(crate) fn build_runtime() -> anyhow::Result<Runtime> {
    runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .context("cannot start the runtime")
}

async fn read_body(answer: Response<Incoming>) -> anyhow::Result<(u16, String)> {
    let status = answer.status().as_u16();
    let body = Limited::new(answer.into_body(), MAX_BODY_LEN)
        .collect()
        .await;
    let bytes: Bytes = body.map_err(|error| anyhow!(error))?.to_bytes();
    Ok((status, String::from_utf8(bytes.into())?))
}

async fn read_lines(
    answer: Response<Incoming>,
    mut on_line: impl FnMut(&str),
) -> anyhow::Result<()> {
    let mut body = answer.into_body();
    let mut rest = Vec::new();
    while let Some(frame) = body.frame().await {
        let Ok(data) = frame?.into_data() else {
            continue;
        };
        rest.extend_from_slice(&data);
        while let Some(end) = rest.iter().position(|byte| *byte == b'\n') {
            let line: Vec<u8> = rest.drain(..=end).collect();
            on_line(String::from_utf8_lossy(&line).trim_end());
        }
        if rest.len() > MAX_BODY_LEN {
            bail!("a line is longer than {MAX_BODY_LEN} bytes");
        }
    }
    Ok(())
}

async fn connect(address: &AdminAddress) -> anyhow::Result<Box<dyn ClientStreamIo>> {
    let stream = match address {
        AdminAddress::Off => bail!("server.admin is \"off\": this lockgate has no admin API"),
        AdminAddress::Tcp(tcp) => TcpStream::connect(tcp)
            .await
            .map(|stream| Box::new(stream) as Box<dyn ClientStreamIo>),
        AdminAddress::Unix(file) => UnixStream::connect(file)
            .await
            .map(|stream| Box::new(stream) as Box<dyn ClientStreamIo>),
    };
    stream.map_err(|error| not_running(error, &describe(address)))
}

fn not_running(error: io::Error, endpoint: &str) -> anyhow::Error {
    match error.kind() {
        io::ErrorKind::ConnectionRefused | io::ErrorKind::NotFound => anyhow!(
            "nothing listens on {endpoint}: is lockgate running, and is server.admin the same?"
        ),
        io::ErrorKind::PermissionDenied => anyhow!(
            "only the user that lockgate runs as may connect to {endpoint}: run this as that user, or as root"
        ),
        _ => anyhow!(error).context(format!("cannot connect to {endpoint}")),
    }
}

/// Returns the address as given, otherwise that of the configuration file, otherwise the default admin address.
///
/// # Errors
/// If the configuration file is invalid. The default address would be a guess, and could be that of another lockgate.
pub(crate) fn address(admin: &AdminArgs) -> anyhow::Result<AdminAddress> {
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

/// Returns the address, or the default if the file is invalid: the health of a process does not depend on its current
/// file.
pub(crate) fn address_or_default(admin: &AdminArgs) -> AdminAddress {
    address(admin).unwrap_or_else(|_| default_address())
}

fn default_address() -> AdminAddress {
    Server::default().admin.value
}

/// Returns the token from the environment, otherwise from the configuration file; `None` if neither has one, or if
/// the file cannot be read.
pub(crate) fn token(admin: &AdminArgs) -> Option<String> {
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
fn header(token: &str) -> anyhow::Result<HeaderValue> {
    let mut value = HeaderValue::try_from(format!("Bearer {token}"))
        .with_context(|| format!("{TOKEN_VARIABLE} is not a valid header value"))?;
    value.set_sensitive(true);
    Ok(value)
}

/// Returns the advice after a 401: the token is wrong, or, without one (`has_token`), required.
fn hint(has_token: bool) -> &'static str {
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

/// The maximum size of an answer in bytes: enough for some ten thousand routes and backends.
const MAX_BODY_LEN: usize = 16 * 1024 * 1024;

/// The request deadline: longer than the server's reply deadline, shorter than a container's health-check timeout.
pub(crate) const DEADLINE: Duration = Duration::from_secs(5);

/// The deadline of a reload: the server may have to read many files.
const RELOAD_DEADLINE: Duration = Duration::from_secs(65);

const TOKEN_VARIABLE: &str = "LOCKGATE_ADMIN_TOKEN";
