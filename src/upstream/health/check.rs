//! The health check of a backend: its settings, and one run of it. The run is a request like a client's, with a
//! clean close, because Python servers log aborted connections.

use crate::{
    config::{BackendAddress, Check, Health, Passive},
    net::{
        descriptors::{DescriptorBudget, DescriptorUse},
        dial::{DialError, DialedStream},
        happy_eyeballs::AttemptPermits,
        resolver::Resolver,
    },
    upstream::{
        backend::{Backend, BackendState},
        connect::ConnectLimits,
        health::error::CheckError,
        member::Member,
    },
};
use bytes::Bytes;
use futures_util::StreamExt;
use http::{HeaderValue, Request, StatusCode, header};
use http_body_util::{BodyExt, Empty, Limited};
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use std::{pin::pin, sync::Arc, time::Duration};
use tokio::{
    io::{AsyncRead, AsyncWrite},
    time::{Instant, timeout, timeout_at},
};
use tokio_tungstenite::{
    WebSocketStream, client_async_with_config,
    tungstenite::{
        self,
        client::IntoClientRequest,
        protocol::{CloseFrame, WebSocketConfig, frame::coding::CloseCode},
    },
};

/// The health check of one backend: configured by its pool, over connections like those of sessions.
#[derive(Debug, Clone)]
pub struct HealthCheck {
    pool: Arc<str>,
    member: Arc<Member>,
    pub(crate) settings: Health,
    pub(crate) slow_start: Duration,
}

/// The stream of a health check.
trait HealthStream: AsyncRead + AsyncWrite + Send + Unpin {}

impl<S: AsyncRead + AsyncWrite + Send + Unpin> HealthStream for S {}

// === impl HealthCheck ===

impl HealthCheck {
    pub(crate) fn new(
        pool: &Arc<str>,
        member: &Arc<Member>,
        settings: &Health,
        slow_start: Duration,
    ) -> Self {
        HealthCheck {
            pool: pool.clone(),
            member: member.clone(),
            settings: settings.clone(),
            slow_start,
        }
    }

    /// Returns the pool that configures the check; other pools may share the backend.
    pub fn pool(&self) -> &Arc<str> {
        &self.pool
    }

    /// Returns the checked backend.
    pub fn backend(&self) -> &Arc<Backend> {
        &self.member.backend
    }

    /// Returns its state in that pool.
    pub fn state(&self, now: Instant) -> BackendState {
        self.backend().state(now, self.slow_start)
    }

    /// Returns when its slow start ends, if it is in slow start.
    pub(crate) fn slow_start_ends(&self) -> Option<Instant> {
        self.backend().slow_start_ends(self.slow_start)
    }

    /// Returns whether the pool has health checks turned off.
    pub fn is_off(&self) -> bool {
        self.settings.check == Check::Off
    }

    /// Returns the value of `Host`: as configured, otherwise the backend's authority or its DNS name, because many
    /// servers accept no other.
    fn host(&self) -> String {
        let configured = self.member.config.host.as_ref();
        if let Some(host) = configured.and_then(|host| host.to_str().ok()) {
            return host.to_owned();
        }
        match (self.member.config.dns(), self.backend().address()) {
            (Some((name, _)), BackendAddress::Tcp { port, .. }) => {
                format!("{}:{port}", name.host())
            }
            (_, BackendAddress::Tcp { .. }) => {
                let name = self.backend().name();
                let authority = name.split_once("://").map(|(_, authority)| authority);
                authority.unwrap_or(name).to_owned()
            }
            // A Unix socket has no authority.
            (_, BackendAddress::Unix(_)) => "localhost".to_owned(),
        }
    }

    /// Returns when failures eject the backend.
    pub(crate) fn passive(&self) -> &Passive {
        &self.member.config.passive
    }

    /// Connects as a session would, with TLS if it is used, and closes the connection.
    pub(crate) async fn connect(
        &self,
        resolver: &Resolver,
        descriptors: &Arc<DescriptorBudget>,
    ) -> Result<(), DialError> {
        // Held longer than the connection.
        let permit = descriptors.acquire_for_health();
        let _permit = permit.ok_or(DialError::NoDescriptor)?;
        let limits = ConnectLimits::alone(self.member.config.connect_timeout);
        let connecting = async {
            let connection = self.dial(resolver, descriptors, limits.address).await?;
            let secured = timeout(limits.tls, self.secure(connection)).await;
            secured.unwrap_or(Err(DialError::Late { after: limits.tls }))
        };
        let connected = timeout(limits.total, connecting).await;
        let late = DialError::Late {
            after: limits.total,
        };
        connected.unwrap_or(Err(late)).map(drop)
    }

    /// Connects, without TLS. The caller limits the whole time.
    async fn dial(
        &self,
        resolver: &Resolver,
        descriptors: &Arc<DescriptorBudget>,
        connect_timeout: Duration,
    ) -> Result<DialedStream, DialError> {
        let permits = AttemptPermits::Budget(descriptors, DescriptorUse::Health);
        let member = &self.member;
        member.dial(resolver, permits, connect_timeout, None).await
    }

    /// Performs the TLS handshake on `connection` if TLS is used.
    async fn secure(&self, connection: DialedStream) -> Result<Box<dyn HealthStream>, DialError> {
        Ok(match (connection, self.member.tls()) {
            (DialedStream::Unix(unix), _) => Box::new(unix),
            (DialedStream::Tcp(tcp), None) => Box::new(tcp),
            (DialedStream::Tcp(tcp), Some(tls)) => Box::new(tls.connect_tls(tcp).await?),
        })
    }
}

/// Runs the health check; it takes at most `health.timeout`.
pub(crate) async fn run_check(
    health_check: &HealthCheck,
    resolver: &Resolver,
    descriptors: &Arc<DescriptorBudget>,
) -> Result<(), CheckError> {
    let settings = &health_check.settings;
    // Held longer than the connection.
    let _permit = descriptors
        .acquire_for_health()
        .ok_or(DialError::NoDescriptor)?;
    let deadline = Instant::now() + settings.timeout.0;
    let timed_out = |_| CheckError::Timeout(settings.timeout.0);
    let connect_timeout = health_check.member.config.connect_timeout;
    let connection = health_check.dial(resolver, descriptors, connect_timeout);
    let dialled = timeout_at(deadline, connection);
    let connection = dialled.await.map_err(timed_out)??;
    if matches!(settings.check, Check::Off | Check::Tcp) {
        return Ok(());
    }
    let secured = timeout_at(deadline, health_check.secure(connection));
    let stream = secured.await.map_err(timed_out)??;
    let host = health_check.host();
    let host = host.as_str();
    let path = settings.path.to_string();
    match settings.check {
        Check::Off | Check::Tcp => Ok(()),
        Check::Websocket => {
            let opened = timeout_at(deadline, open(stream, host, &path));
            let socket = opened.await.map_err(timed_out)??;
            // The backend is healthy, even if the closing handshake exceeds the deadline.
            let _ = timeout_at(deadline, close(socket)).await;
            Ok(())
        }
        Check::Http => {
            let status = get(stream, host, &path, deadline)
                .await
                .map_err(timed_out)??;
            if status.is_success() || status.is_redirection() {
                Ok(())
            } else {
                Err(CheckError::Status(path.into(), status))
            }
        }
    }
}

async fn open<S: AsyncRead + AsyncWrite + Unpin>(
    stream: S,
    host: &str,
    path: &str,
) -> Result<WebSocketStream<S>, CheckError> {
    let failed = |error| match error {
        tungstenite::Error::Http(response) => CheckError::Refused(response.status()),
        other => CheckError::Handshake(Box::new(other)),
    };
    let url = format!("ws://{host}{path}");
    let mut request = url.into_client_request().map_err(failed)?;
    request
        .headers_mut()
        .insert(header::USER_AGENT, HEALTH_USER_AGENT);
    let bounds = WebSocketConfig::default()
        .read_buffer_size(4096)
        .max_message_size(Some(MAX_RESPONSE_LEN))
        .max_frame_size(Some(MAX_RESPONSE_LEN));
    let opened = client_async_with_config(request, stream, Some(bounds)).await;
    opened.map(|(socket, _)| socket).map_err(failed)
}

/// Performs the closing handshake (RFC 6455 §7.1.2): discards what the server sends before its Close, then waits for
/// its FIN.
async fn close<S: AsyncRead + AsyncWrite + Unpin>(mut socket: WebSocketStream<S>) {
    let normal = CloseFrame {
        code: CloseCode::Normal,
        reason: "".into(),
    };
    if socket.close(Some(normal)).await.is_ok() {
        while let Some(Ok(_)) = socket.next().await {}
    }
}

/// Sends a GET request and returns the status. The outer error means that the deadline has passed.
async fn get<S: AsyncRead + AsyncWrite + Unpin>(
    stream: S,
    host: &str,
    path: &str,
    deadline: Instant,
) -> Result<Result<StatusCode, CheckError>, tokio::time::error::Elapsed> {
    let request = Request::get(path)
        .header(header::HOST, host)
        .header(header::USER_AGENT, HEALTH_USER_AGENT)
        .header(header::ACCEPT, "*/*")
        .header(header::CONNECTION, "close")
        .body(Empty::<Bytes>::new())
        .expect("host and path were parsed");
    let (mut sender, connection) = match http1::handshake(TokioIo::new(stream)).await {
        Ok(both) => both,
        Err(error) => return Ok(Err(error.into())),
    };
    let response = async {
        let response = match timeout_at(deadline, sender.send_request(request)).await? {
            Ok(response) => response,
            Err(error) => return Ok(Err(error.into())),
        };
        let status = response.status();
        // Only the status counts; the body is read so that the server logs no error.
        let rest = Limited::new(response.into_body(), MAX_RESPONSE_LEN).collect();
        let _ = timeout_at(deadline, rest).await;
        Ok(Ok(status))
    };
    let mut response = pin!(response);
    tokio::select! {
        biased;
        response = &mut response => response,
        // The connection has ended, but `response` may not have received its last bytes yet.
        _ = connection => response.await,
    }
}

/// The User-Agent that backends log for health checks.
const HEALTH_USER_AGENT: HeaderValue =
    HeaderValue::from_static(concat!("lockgate/", env!("CARGO_PKG_VERSION")));

/// The maximum number of bytes that are read of a greeting or a page.
const MAX_RESPONSE_LEN: usize = 64 * 1024;
