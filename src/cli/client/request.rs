//! Sends one request to an admin address, and returns the answer as a whole or line by line.
//!
//! The address and the token of the running lockgate come from flags, the environment or its configuration file. The
//! token has no flag, because the process list is visible to every user.
//!
//! Another program may listen on the address. Before the token is sent over TCP, the listener must therefore prove that
//! it knows the token (`admin/proof.rs`), on the same connection. A Unix socket needs no proof: the kernel names the
//! user that listens there.

use crate::{
    admin::{
        listener::describe,
        proof::{ProofNonce, ProofResult},
    },
    cli::{
        args::AdminArgs,
        config_file::{self, DEFAULT_FILE},
        files::read_files,
        progress::ProgressDisplay,
    },
    config::{AdminAddress, Config, Diagnostics, Server},
    net::listen,
    observe::logging::ErrorChain,
};
use anyhow::{Context, anyhow, bail};
use http_body_util::{BodyExt, Limited};
use hyper::{
    Method, Request, Response, StatusCode,
    body::{Bytes, Incoming},
    client::conn::http1::{self, SendRequest},
    header::{AUTHORIZATION, HOST, HeaderValue},
};
use hyper_util::rt::TokioIo;
use rustix::process::geteuid;
use std::{
    convert::Infallible,
    env, fs, future, io,
    net::{Ipv4Addr, SocketAddr},
    os::unix::fs::MetadataExt,
    path::Path,
    pin::pin,
    time::Duration,
};
use tokio::{
    io::{AsyncRead, AsyncWrite},
    net::{TcpStream, UnixStream},
    runtime::{self, Runtime},
    time::{sleep, timeout},
};

/// A request and the admin address that it goes to.
pub(crate) struct AdminRequest<'a> {
    pub(crate) address: &'a AdminAddress,
    pub(crate) token: Option<&'a str>,
    pub(crate) method: Method,
    pub(crate) path: &'a str,
}

/// The state of a connection before its request.
enum Proof {
    /// The listener may receive the token.
    Verified,
    /// The listener requires no token, so none is sent.
    NotRequired,
    /// The listener has given too many proofs.
    RateLimited,
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
        mut self,
        read: impl AsyncFnOnce(Response<Incoming>) -> anyhow::Result<T>,
    ) -> anyhow::Result<T> {
        let mut attempts = 0;
        loop {
            attempts += 1;
            let stream = connect(self.address, self.token.is_some()).await?;
            let (mut sender, connection) = http1::handshake(TokioIo::new(stream)).await?;
            // Drives the connection and never completes: how the connection ends is visible in the answer.
            let mut driver = pin!(async {
                let _ = connection.await;
                future::pending::<Infallible>().await
            });
            if let (Some(token), AdminAddress::Tcp(_)) = (self.token, self.address) {
                let proof = tokio::select! {
                    proof = prove(&mut sender, token, self.address) => proof?,
                    never = &mut driver => match never {},
                };
                match proof {
                    Proof::Verified => {}
                    Proof::NotRequired => {
                        eprintln!(
                            "warning: the listener on {} requires no token, so the token was not sent: is server.admin_token set there?",
                            describe(self.address)
                        );
                        self.token = None;
                    }
                    Proof::RateLimited if attempts < MAX_ATTEMPTS => {
                        sleep(PROOF_BACKOFF).await;
                        continue;
                    }
                    Proof::RateLimited => bail!(
                        "{} answers too many requests for a proof: try again later",
                        describe(self.address)
                    ),
                }
            }
            let mut request = build(self.method.clone(), self.path)?;
            if let Some(token) = self.token {
                let value = header(token)?;
                request.headers_mut().insert(AUTHORIZATION, value);
            }
            let response = async {
                sender.ready().await?;
                sender.send_request(request).await
            };
            let response = tokio::select! {
                response = response => response,
                never = &mut driver => match never {},
            };
            // The process has ended, and during a takeover another one listens (RFC 9112 §9.3.1).
            if self.method == Method::GET
                && attempts < MAX_ATTEMPTS
                && response
                    .as_ref()
                    .is_err_and(hyper::Error::is_incomplete_message)
            {
                continue;
            }
            let answered = async { read(response?).await };
            let answered: anyhow::Result<_> = tokio::select! {
                answered = answered => answered,
                never = &mut driver => match never {},
            };
            return answered.context(NOT_LOCKGATE);
        }
    }
}

fn build(method: Method, path: &str) -> anyhow::Result<Request<String>> {
    // The admin listener requires a Host that no web page can have. It need not match the address.
    Ok(Request::builder()
        .method(method)
        .uri(path)
        .header(HOST, "localhost")
        .body(String::new())?)
}

/// Requests the proof that the listener knows `token`, and verifies it. The token itself is not sent.
///
/// # Errors
/// If the answer proves nothing.
async fn prove(
    sender: &mut SendRequest<String>,
    token: &str,
    address: &AdminAddress,
) -> anyhow::Result<Proof> {
    let nonce = ProofNonce::random();
    let request = build(Method::GET, &nonce.target())?;
    let answered = async {
        let answer = sender.send_request(request).await?;
        read_limited(answer, MAX_PROOF_LEN).await
    };
    let (status, text) = answered.await.context(NOT_LOCKGATE)?;
    let endpoint = describe(address);
    match (StatusCode::from_u16(status), nonce.verify(token, &text)) {
        (Ok(StatusCode::OK), ProofResult::Verified) => Ok(Proof::Verified),
        (Ok(StatusCode::OK), ProofResult::NoToken) => Ok(Proof::NotRequired),
        (Ok(StatusCode::OK), ProofResult::Wrong) => bail!(
            "{endpoint} does not know the token, so the token was not sent: compare LOCKGATE_ADMIN_TOKEN, or the file given \
             with --config, with server.admin_token; or another program listens there"
        ),
        (Ok(StatusCode::TOO_MANY_REQUESTS), _) => Ok(Proof::RateLimited),
        (Ok(StatusCode::UNAUTHORIZED | StatusCode::NOT_FOUND), _) => bail!(
            "{endpoint} cannot prove that it knows the token (it has no /auth), so the token was not sent: if this is a \
             lockgate of an older version, restart it with this version, or use server.admin = \"unix:/path\", which needs no \
             proof; otherwise another program listens there"
        ),
        _ => bail!(
            "{endpoint} answered {status} to /auth, so the token was not sent: is it lockgate that listens there?"
        ),
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
    let answered = {
        let _progress = ProgressDisplay::start(format!("waiting for {}", describe(address)));
        build_runtime()?.block_on(request.send(deadline))
    };
    let (status, text) = answered.map_err(|error| name_file(error, admin))?;
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
    read_limited(answer, MAX_BODY_LEN).await
}

async fn read_limited(answer: Response<Incoming>, limit: usize) -> anyhow::Result<(u16, String)> {
    let status = answer.status().as_u16();
    let body = Limited::new(answer.into_body(), limit).collect().await;
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

/// Connects to a TCP address; to `[::]` by IPv4 where IPv6 is off, as the listener does.
async fn connect_tcp(address: SocketAddr) -> io::Result<TcpStream> {
    match TcpStream::connect(address).await {
        Err(error) if listen::is_without_ipv6(address, &error) => {
            TcpStream::connect((Ipv4Addr::LOCALHOST, address.port())).await
        }
        connected => connected,
    }
}

/// Connects to the admin listener. `has_token`: the token will be sent, so another user must not listen there.
async fn connect(
    address: &AdminAddress,
    has_token: bool,
) -> anyhow::Result<Box<dyn ClientStreamIo>> {
    let stream = match address {
        AdminAddress::Off => bail!("server.admin is \"off\": this lockgate has no admin API"),
        AdminAddress::Tcp(tcp) => connect_tcp(*tcp)
            .await
            .map(|stream| Box::new(stream) as Box<dyn ClientStreamIo>),
        AdminAddress::Unix(file) => match UnixStream::connect(file).await {
            Ok(stream) => {
                let peer = stream.peer_cred()?.uid();
                if has_token && !is_trusted(peer, geteuid().as_raw(), file) {
                    bail!(
                        "the user {peer} listens on {}, and could be any user of this machine, so the token was not sent: run \
                         lockgate as this user or as root, with its socket in a directory of its own",
                        describe(address)
                    );
                }
                Ok(Box::new(stream) as Box<dyn ClientStreamIo>)
            }
            Err(error) => Err(error),
        },
    };
    stream.map_err(|error| not_running(error, &describe(address)))
}

/// Returns whether the process of the user `peer` that listens on `socket` may receive the token of the user `own`: it
/// is the same user, or root. Root also trusts a service user, if no other user can place a socket in that directory.
fn is_trusted(peer: u32, own: u32, socket: &Path) -> bool {
    let is_private = || {
        let folder = socket.parent().map(fs::metadata);
        folder.is_some_and(|folder| {
            folder.is_ok_and(|folder| {
                folder.mode() & 0o002 == 0 && [ROOT, peer].contains(&folder.uid())
            })
        })
    };
    peer == own || peer == ROOT || own == ROOT && is_private()
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

/// Adds to an error that the working directory has a configuration, which may name another address.
fn name_file(error: anyhow::Error, admin: &AdminArgs) -> anyhow::Error {
    let is_given = admin.admin.is_some() || admin.config.is_some();
    if is_given || !config_file::is_in_working_directory() {
        return error;
    }
    anyhow!(
        "{}\nthis directory has a configuration; if it is that of the running lockgate, add --config {DEFAULT_FILE}",
        ErrorChain(&*error)
    )
}

fn load(file: &Path) -> anyhow::Result<Result<Config, Diagnostics>> {
    let file = file.to_owned();
    read_files(move || Config::load(&file))
}

/// Returns the address as given, otherwise that of the configuration file, otherwise the default admin address.
///
/// # Errors
/// If the configuration file is invalid. The default address would be a guess, and could be that of another lockgate.
pub(crate) fn address(admin: &AdminArgs) -> anyhow::Result<AdminAddress> {
    match (&admin.admin, &admin.config) {
        (Some(given), _) => Ok(given.clone()),
        (None, None) => Ok(default_address()),
        (None, Some(file)) => match load(file)? {
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
        let config = load(admin.config.as_ref()?).ok()?.ok()?;
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
    if has_token {
        "the token is wrong: compare LOCKGATE_ADMIN_TOKEN, or the file given with --config, with server.admin_token"
    } else {
        "a token is required: set LOCKGATE_ADMIN_TOKEN to server.admin_token, or give the configuration file with --config (it \
         must be valid, and the environment variables that it uses must be set)"
    }
}

const ROOT: u32 = 0;

const NOT_LOCKGATE: &str = "cannot read the answer: is it lockgate that listens there?";

/// A proof has 65 bytes. A refusal has a line of text.
const MAX_PROOF_LEN: usize = 4096;

/// A command waits up to 3 s for a proof, which is below [`DEADLINE`].
const MAX_ATTEMPTS: u32 = 11;

const PROOF_BACKOFF: Duration = Duration::from_millis(300);

/// The maximum size of an answer in bytes: enough for some ten thousand routes and backends.
const MAX_BODY_LEN: usize = 16 * 1024 * 1024;

/// The request deadline: longer than the server's reply deadline, shorter than a container's health-check timeout.
pub(crate) const DEADLINE: Duration = Duration::from_secs(5);

/// The deadline of a reload: the server may have to read many files.
const RELOAD_DEADLINE: Duration = Duration::from_secs(65);

const TOKEN_VARIABLE: &str = "LOCKGATE_ADMIN_TOKEN";

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt;

    #[test]
    fn token_goes_to_sockets_of_the_same_user_or_root() {
        let folder = tempfile::tempdir().unwrap();
        let socket = folder.path().join("admin.sock");
        let owner = fs::metadata(folder.path()).unwrap().uid();
        let service = owner + 1000;
        for (mode, peer, own, trusted) in [
            (0o755, service, service, true),
            (0o777, service, service, true),
            (0o755, ROOT, service, true),
            (0o755, service + 1, service, false),
            // Root trusts the owner of a directory in which no other user can place a socket.
            (0o755, owner, ROOT, true),
            (0o777, owner + 7, ROOT, false),
        ] {
            fs::set_permissions(folder.path(), fs::Permissions::from_mode(mode)).unwrap();
            assert_eq!(
                is_trusted(peer, own, &socket),
                trusted,
                "{mode:o} {peer} {own}"
            );
        }
        assert!(!is_trusted(
            owner + 7,
            ROOT,
            Path::new("/nowhere/admin.sock")
        ));
    }
}
