//! One health check of a backend: a client's request with a clean close, because Python servers log connections that
//! break off.

use super::HealthCheck;
use crate::{
    config::Check,
    upstream::{DialError, Resolver},
};
use bytes::Bytes;
use futures_util::StreamExt;
use http::{HeaderValue, Request, StatusCode, header};
use http_body_util::{BodyExt, Empty, Limited};
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use std::{pin::pin, time::Duration};
use tokio::{
    io::{AsyncRead, AsyncWrite},
    time::{Instant, timeout_at},
};
use tokio_tungstenite::{
    WebSocketStream, client_async_with_config,
    tungstenite::{
        self,
        client::IntoClientRequest,
        protocol::{CloseFrame, WebSocketConfig, frame::coding::CloseCode},
    },
};

/// Why a health check failed.
#[derive(Debug, thiserror::Error)]
pub(super) enum CheckError {
    #[error(transparent)]
    Dial(#[from] DialError),
    #[error("no answer within {0:?} (health.timeout)")]
    Timeout(Duration),
    #[error("the answer to a WebSocket handshake was {0}")]
    Refused(StatusCode),
    #[error("invalid answer to a WebSocket handshake")]
    Handshake(#[source] Box<tungstenite::Error>),
    #[error("the answer to GET {0} was {1}")]
    Status(Box<str>, StatusCode),
    #[error("no HTTP answer")]
    Broken(#[from] hyper::Error),
}

/// Runs the health check; it takes at most `health.timeout`.
pub(super) async fn check(probe: &HealthCheck, resolver: &Resolver) -> Result<(), CheckError> {
    let how = &probe.how;
    let deadline = Instant::now() + how.timeout.0;
    let late = |_| CheckError::Timeout(how.timeout.0);
    let dialled = timeout_at(deadline, probe.dial(resolver));
    let connection = dialled.await.map_err(late)??;
    if matches!(how.check, Check::Off | Check::Tcp) {
        return Ok(());
    }
    let secured = timeout_at(deadline, probe.secure(connection));
    let stream = secured.await.map_err(late)??;
    let host = probe.host();
    let host = host.as_str();
    let path = how.path.to_string();
    match how.check {
        Check::Off | Check::Tcp => Ok(()),
        Check::Websocket => {
            let opened = timeout_at(deadline, open(stream, host, &path));
            let socket = opened.await.map_err(late)??;
            // The backend is healthy, even if the closing handshake exceeds the deadline.
            let _ = timeout_at(deadline, leave(socket)).await;
            Ok(())
        }
        Check::Http => {
            let status = get(stream, host, &path, deadline).await.map_err(late)??;
            match status.is_success() || status.is_redirection() {
                true => Ok(()),
                false => Err(CheckError::Status(path.into(), status)),
            }
        }
    }
}

async fn open<S: AsyncRead + AsyncWrite + Unpin>(
    stream: S,
    host: &str,
    path: &str,
) -> Result<WebSocketStream<S>, CheckError> {
    let wrong = |error| match error {
        tungstenite::Error::Http(answer) => CheckError::Refused(answer.status()),
        other => CheckError::Handshake(Box::new(other)),
    };
    let url = format!("ws://{host}{path}");
    let mut request = url.into_client_request().map_err(wrong)?;
    request.headers_mut().insert(header::USER_AGENT, AGENT);
    let bounds = WebSocketConfig::default()
        .read_buffer_size(4096)
        .max_message_size(Some(MOST))
        .max_frame_size(Some(MOST));
    let shaken = client_async_with_config(request, stream, Some(bounds)).await;
    shaken.map(|(socket, _)| socket).map_err(wrong)
}

/// Performs the closing handshake (RFC 6455 §7.1.2): discards what the server sends before its Close, then waits for
/// its FIN.
async fn leave<S: AsyncRead + AsyncWrite + Unpin>(mut socket: WebSocketStream<S>) {
    let normal = CloseFrame {
        code: CloseCode::Normal,
        reason: "".into(),
    };
    if socket.close(Some(normal)).await.is_ok() {
        while let Some(Ok(_)) = socket.next().await {}
    }
}

/// `Err` is returned by the outer deadline.
async fn get<S: AsyncRead + AsyncWrite + Unpin>(
    stream: S,
    host: &str,
    path: &str,
    deadline: Instant,
) -> Result<Result<StatusCode, CheckError>, tokio::time::error::Elapsed> {
    let request = Request::get(path)
        .header(header::HOST, host)
        .header(header::USER_AGENT, AGENT)
        .header(header::ACCEPT, "*/*")
        .header(header::CONNECTION, "close")
        .body(Empty::<Bytes>::new())
        .expect("host and path were parsed");
    let (mut sender, connection) = match http1::handshake(TokioIo::new(stream)).await {
        Ok(both) => both,
        Err(error) => return Ok(Err(error.into())),
    };
    let answer = async {
        let answer = match timeout_at(deadline, sender.send_request(request)).await? {
            Ok(answer) => answer,
            Err(error) => return Ok(Err(error.into())),
        };
        let status = answer.status();
        // Only the status counts; the body is read so that the server logs no error.
        let rest = Limited::new(answer.into_body(), MOST).collect();
        let _ = timeout_at(deadline, rest).await;
        Ok(Ok(status))
    };
    let mut answer = pin!(answer);
    tokio::select! {
        biased;
        answer = &mut answer => answer,
        // The connection has ended; the response that it read last may still be on its way to `answer`.
        _ = connection => answer.await,
    }
}

/// The User-Agent that backends log for health checks.
const AGENT: HeaderValue =
    HeaderValue::from_static(concat!("lockgate/", env!("CARGO_PKG_VERSION")));
/// The maximum number of bytes that are read of a greeting or a page.
const MOST: usize = 64 * 1024;
