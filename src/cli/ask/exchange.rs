//! Sends one request to an admin address, and returns the answer as a whole or line by line.

use super::place;
use crate::{admin::describe, config::AdminAddress};
use anyhow::{Context, anyhow, bail};
use http_body_util::{BodyExt, Limited};
use hyper::{
    Method, Request, Response,
    body::{Bytes, Incoming},
    client::conn::http1,
    header::{AUTHORIZATION, HOST},
};
use hyper_util::rt::TokioIo;
use std::{future, io, time::Duration};
use tokio::{
    io::{AsyncRead, AsyncWrite},
    net::{TcpStream, UnixStream},
    time::timeout,
};

/// A request and the admin address that it goes to.
pub(super) struct AdminRequest<'a> {
    pub(super) address: &'a AdminAddress,
    pub(super) token: Option<&'a str>,
    pub(super) method: Method,
    pub(super) path: &'a str,
}

// === impl AdminRequest ===

impl AdminRequest<'_> {
    /// Sends the request, and returns the answer's status and text. `deadline` covers everything from connect to last byte.
    pub(super) async fn send(self, deadline: Duration) -> anyhow::Result<(u16, String)> {
        let endpoint = describe(self.address);
        match timeout(deadline, self.exchange(read_body)).await {
            Ok(answer) => answer,
            Err(_) => bail!(
                "{endpoint} did not answer within {deadline:?}: the process hangs, or another program listens there"
            ),
        }
    }

    /// Sends the request, and calls `on_line` with every line of a 200 answer as it arrives. Returns the status, and the text
    /// of any other answer.
    pub(super) async fn follow(self, on_line: impl FnMut(&str)) -> anyhow::Result<(u16, String)> {
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
            let value = place::header(token)?;
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

/// A TCP or Unix stream.
trait ClientStreamIo: AsyncRead + AsyncWrite + Send + Unpin {}

impl<S: AsyncRead + AsyncWrite + Send + Unpin> ClientStreamIo for S {}

/// The maximum size of an answer in bytes: enough for some ten thousand routes and backends.
const MAX_BODY_LEN: usize = 16 * 1024 * 1024;
