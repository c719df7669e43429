//! The WebSocket handshake as a client, over HTTP/1.1 or HTTP/2.

use super::{
    super::{args::ProbeArgs, header},
    report::HttpAnswer,
};
use ::http::{HeaderMap, Method, Request, Response, header as field};
use anyhow::{Context, anyhow};
use bytes::Bytes;
use http_body_util::{BodyExt, Empty, Limited};
use hyper::{client::conn::http2, ext::Protocol};
use hyper_util::rt::{TokioExecutor, TokioIo};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio_tungstenite::{
    WebSocketStream, client_async,
    tungstenite::{self, client::IntoClientRequest, protocol::Role},
};

/// A connection, encrypted or not.
pub(super) type Stream = Box<dyn Io>;

/// The I/O traits of a connection.
pub(super) trait Io: AsyncRead + AsyncWrite + Send + Unpin {}
impl<T: AsyncRead + AsyncWrite + Send + Unpin> Io for T {}

/// The outcome of the handshake.
pub(super) enum ProbeOutcome {
    /// The server accepted the WebSocket.
    Open(Box<WebSocketStream<Stream>>, HttpAnswer),
    /// The server refused with an HTTP response.
    Refused(HttpAnswer),
}

/// Sends the handshake and reads the answer.
pub(super) async fn open_websocket(
    arguments: &ProbeArgs,
    stream: Stream,
    tls: bool,
) -> anyhow::Result<ProbeOutcome> {
    match arguments.h2 {
        true if tls => over_http2(arguments, stream).await,
        true => Err(anyhow!("handshake: --h2 requires wss://")),
        false => over_http1(arguments, stream).await,
    }
}

async fn over_http1(arguments: &ProbeArgs, stream: Stream) -> anyhow::Result<ProbeOutcome> {
    let request = arguments.url.as_str().into_client_request();
    let mut request = request.map_err(|error| anyhow!("handshake: {error}"))?;
    add_headers(arguments, request.headers_mut())?;
    match client_async(request, stream).await {
        Ok((socket, response)) => {
            let (parts, _) = response.into_parts();
            Ok(ProbeOutcome::Open(
                Box::new(socket),
                http_answer(parts.status.as_u16(), "1.1", &parts.headers),
            ))
        }
        Err(tungstenite::Error::Http(response)) => {
            let (parts, body) = response.into_parts();
            let body = body.unwrap_or_default();
            Ok(ProbeOutcome::Refused(refusal(
                parts.status.as_u16(),
                "1.1",
                &parts.headers,
                &body,
            )))
        }
        Err(error) => Err(anyhow!("handshake: {error}")),
    }
}

async fn over_http2(arguments: &ProbeArgs, stream: Stream) -> anyhow::Result<ProbeOutcome> {
    let (mut sender, connection) = http2::Builder::new(TokioExecutor::new())
        .handshake(TokioIo::new(stream))
        .await
        .context("handshake: no HTTP/2")?;
    // The connection task ends when the sender and the upgraded stream are dropped.
    crate::lifecycle::Tasks::default().spawn(async {
        let _ = connection.await;
    });
    let uri = arguments.url.replacen("wss", "https", 1);
    let mut request = Request::builder()
        .method(Method::CONNECT)
        .uri(uri)
        .header(field::SEC_WEBSOCKET_VERSION, "13")
        .extension(Protocol::from_static("websocket"))
        .body(Empty::<Bytes>::new())
        .context("handshake: the URL cannot be requested over HTTP/2")?;
    add_headers(arguments, request.headers_mut())?;
    sender.ready().await.context("handshake: no HTTP/2")?;
    let mut response = sender.send_request(request).await.context(
        "handshake: no answer over HTTP/2; does the server support WebSockets over HTTP/2 (RFC 8441)?",
    )?;
    if !response.status().is_success() {
        let (parts, body) = response.into_parts();
        let body = Limited::new(body, MAX_BODY_LEN).collect().await;
        let body = body.map(|body| body.to_bytes()).unwrap_or_default();
        return Ok(ProbeOutcome::Refused(refusal(
            parts.status.as_u16(),
            "2",
            &parts.headers,
            &body,
        )));
    }
    let upgraded = hyper::upgrade::on(&mut response)
        .await
        .context("handshake")?;
    let io: Stream = Box::new(TokioIo::new(upgraded));
    let socket = WebSocketStream::from_raw_socket(io, Role::Client, None).await;
    let parts: Response<()> = response.map(|_| ());
    Ok(ProbeOutcome::Open(
        Box::new(socket),
        http_answer(parts.status().as_u16(), "2", parts.headers()),
    ))
}

fn add_headers(arguments: &ProbeArgs, headers: &mut HeaderMap) -> anyhow::Result<()> {
    if !arguments.protocol.is_empty() {
        let offered = arguments.protocol.join(", ");
        let offered = offered.parse().context("--protocol")?;
        headers.insert(field::SEC_WEBSOCKET_PROTOCOL, offered);
    }
    for line in &arguments.header {
        let (name, value) = header::read(line)?;
        headers.append(name, value);
    }
    Ok(())
}

fn http_answer(status: u16, http: &'static str, headers: &HeaderMap) -> HttpAnswer {
    let text = |name| {
        let value: &::http::HeaderValue = headers.get(name)?;
        Some(String::from_utf8_lossy(value.as_bytes()).into_owned())
    };
    HttpAnswer {
        status,
        http,
        subprotocol: text(field::SEC_WEBSOCKET_PROTOCOL),
        extensions: text(field::SEC_WEBSOCKET_EXTENSIONS),
        headers: Vec::new(),
        body: None,
    }
}

fn refusal(status: u16, http: &'static str, headers: &HeaderMap, body: &[u8]) -> HttpAnswer {
    let text = String::from_utf8_lossy(body);
    HttpAnswer {
        headers: headers
            .iter()
            .map(|(name, value)| {
                (
                    name.to_string(),
                    String::from_utf8_lossy(value.as_bytes()).into_owned(),
                )
            })
            .collect(),
        body: text
            .lines()
            .next()
            .map(|line| line.chars().take(MAX_SHOWN_CHARS).collect()),
        ..http_answer(status, http, headers)
    }
}

/// The maximum number of bytes read from a refusal's body.
const MAX_BODY_LEN: usize = 64 * 1024;
/// The maximum number of characters shown of a refusal's body.
const MAX_SHOWN_CHARS: usize = 200;
