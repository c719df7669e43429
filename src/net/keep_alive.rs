//! A web client of one server, which keeps its connections open between requests: `guard` asks a service about each
//! request of a client. Redirects are not followed.
//!
//! An idle connection has no task: it is polled before it is used again, and one that the server has closed is dropped.

use crate::net::{
    happy_eyeballs::AddressHistory,
    resolver::Resolver,
    web_stream::{WebConnectError, WebDialer},
};
use bytes::Bytes;
use futures_util::FutureExt;
use http::{HeaderMap, HeaderValue, Request, Response, Uri, header, uri::PathAndQuery};
use http_body_util::{BodyExt, Empty, LengthLimitError, Limited};
use hyper::client::conn::http1::{self, SendRequest};
use hyper_util::rt::TokioIo;
use rustls::{ClientConfig, pki_types::ServerName};
use std::{
    error::Error as StdError,
    fmt,
    future::{Future, pending, poll_fn},
    pin::Pin,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    task::Poll,
    time::Duration,
};
use tokio::{
    sync::Semaphore,
    time::{Instant, timeout},
};
use tokio_rustls::TlsConnector;

/// The client of one server.
pub(crate) struct KeepAliveClient {
    /// The name or IP address; IPv6 without brackets.
    host: String,
    port: u16,
    /// The Host of the requests.
    authority: HeaderValue,
    tls: Option<(TlsConnector, ServerName<'static>)>,
    /// In bytes.
    max_head_len: usize,
    history: AddressHistory,
    /// At most [`MAX_IDLE`].
    idle: Mutex<Vec<(WebConnection, Instant)>>,
    /// The permits of concurrent requests.
    permits: Semaphore,
}

/// A connection, with the future that reads and writes it.
struct WebConnection {
    sender: SendRequest<Empty<Bytes>>,
    driver: Pin<Box<dyn Future<Output = ()> + Send>>,
    has_ended: bool,
}

/// Why a URL cannot be requested.
#[derive(Debug, thiserror::Error)]
#[error("`{0}` is not the URL of a web server")]
pub(crate) struct BadServerUrl(String);

/// Why a request has no response.
#[derive(Debug, thiserror::Error)]
pub(crate) enum KeepAliveError {
    #[error("no complete response within {} ms", .0.as_millis())]
    Timeout(Duration),
    #[error(transparent)]
    Connect(#[from] WebConnectError),
    #[error("the body of the response is longer than {MAX_BODY_LEN} bytes")]
    TooLarge,
    #[error("the response is not valid HTTP, or its head is too large")]
    Http(#[source] Box<dyn StdError + Send + Sync>),
}

// === impl KeepAliveClient ===

impl KeepAliveClient {
    /// Creates a client for the server of `url`. A head of a response may have up to `max_head_len` bytes.
    pub(crate) fn new(
        url: &Uri,
        tls: Arc<ClientConfig>,
        max_head_len: usize,
    ) -> Result<KeepAliveClient, BadServerUrl> {
        let bad = || BadServerUrl(url.to_string());
        let host = url.host().unwrap_or_default().trim_matches(['[', ']']);
        let (default_port, tls) = match url.scheme_str() {
            Some("http") => (80, None),
            Some("https") => {
                let name = ServerName::try_from(host.to_owned()).map_err(|_| bad())?;
                (443, Some((TlsConnector::from(tls), name)))
            }
            _ => return Err(bad()),
        };
        let authority = url.authority().map_or("", |authority| authority.as_str());
        Ok(KeepAliveClient {
            host: host.to_owned(),
            port: url.port_u16().unwrap_or(default_port),
            authority: authority.try_into().map_err(|_| bad())?,
            tls,
            max_head_len: max_head_len.max(MIN_HEAD_LEN),
            history: AddressHistory::default(),
            idle: Mutex::default(),
            permits: Semaphore::new(MAX_CONCURRENT),
        })
    }

    /// Sends a GET request, and returns the whole response if it is complete within `limit`.
    pub(crate) async fn get(
        &self,
        target: &PathAndQuery,
        mut headers: HeaderMap,
        resolver: &Resolver,
        limit: Duration,
    ) -> Result<Response<Bytes>, KeepAliveError> {
        headers.insert(header::HOST, self.authority.clone());
        let request = || {
            let mut request = Request::new(Empty::new());
            *request.uri_mut() = target.clone().into();
            *request.headers_mut() = headers.clone();
            request
        };
        let exchange = async {
            // Never closed.
            let _permit = self.permits.acquire().await;
            while let Some(mut connection) = self.take_idle().await {
                match connection.exchange(request()).await {
                    // The server may have closed it at the same time; a GET may be repeated (RFC 9110 §9.2.2).
                    Err(ExchangeError::Unanswered(error)) if !error.is_parse() => {}
                    result => return self.finish(connection, result).await,
                }
            }
            let mut connection = self.connect(resolver).await?;
            let result = connection.exchange(request()).await;
            self.finish(connection, result).await
        };
        let response = timeout(limit, exchange).await;
        response.unwrap_or(Err(KeepAliveError::Timeout(limit)))
    }

    /// Keeps the connection of a complete response if it can carry another request.
    async fn finish(
        &self,
        mut connection: WebConnection,
        result: Result<Response<Bytes>, ExchangeError>,
    ) -> Result<Response<Bytes>, KeepAliveError> {
        let response = result?;
        if connection.is_reusable().await {
            let mut idle = self.lock();
            if idle.len() < MAX_IDLE {
                idle.push((connection, Instant::now()));
            }
        }
        Ok(response)
    }

    /// Returns the connection that was used last, if it is still open.
    async fn take_idle(&self) -> Option<WebConnection> {
        loop {
            let (mut connection, since) = self.lock().pop()?;
            if since.elapsed() > MAX_IDLE_TIME {
                // The others have been idle for longer.
                self.lock().clear();
                return None;
            }
            if connection.is_reusable().await {
                return Some(connection);
            }
        }
    }

    async fn connect(&self, resolver: &Resolver) -> Result<WebConnection, KeepAliveError> {
        let dialer = WebDialer {
            resolver,
            history: &self.history,
            connect_timeout: CONNECT_TIMEOUT,
        };
        let tls = self.tls.clone();
        let stream = dialer.connect(&self.host, self.port, tls).await?;
        let mut builder = http1::Builder::new();
        builder.max_buf_size(self.max_head_len);
        let (sender, connection) = builder
            .handshake(TokioIo::new(stream))
            .await
            .map_err(|error| KeepAliveError::Http(error.into()))?;
        Ok(WebConnection {
            sender,
            // Errors of the connection also surface in the response.
            driver: Box::pin(connection.map(drop)),
            has_ended: false,
        })
    }

    fn lock(&self) -> MutexGuard<'_, Vec<(WebConnection, Instant)>> {
        // A list is consistent after every statement, so a poisoned state is used anyway.
        self.idle.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl fmt::Debug for KeepAliveClient {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("KeepAliveClient")
            .field("host", &self.host)
            .field("port", &self.port)
            .finish_non_exhaustive()
    }
}

// === impl WebConnection ===

/// Why one connection has given no response.
enum ExchangeError {
    /// It has ended before the head of a response.
    Unanswered(hyper::Error),
    Broken(KeepAliveError),
}

impl From<ExchangeError> for KeepAliveError {
    fn from(error: ExchangeError) -> Self {
        match error {
            ExchangeError::Unanswered(error) => KeepAliveError::Http(error.into()),
            ExchangeError::Broken(error) => error,
        }
    }
}

impl WebConnection {
    async fn exchange(
        &mut self,
        request: Request<Empty<Bytes>>,
    ) -> Result<Response<Bytes>, ExchangeError> {
        let (sender, driver, has_ended) = (&mut self.sender, &mut self.driver, &mut self.has_ended);
        let exchange = async {
            let response = sender.send_request(request).await;
            let (parts, body) = response.map_err(ExchangeError::Unanswered)?.into_parts();
            let body = Limited::new(body, MAX_BODY_LEN).collect().await;
            let body = body.map_err(|error| {
                ExchangeError::Broken(if error.is::<LengthLimitError>() {
                    KeepAliveError::TooLarge
                } else {
                    KeepAliveError::Http(error)
                })
            })?;
            Ok(Response::from_parts(parts, body.to_bytes()))
        };
        let driven = async {
            if !*has_ended {
                driver.as_mut().await;
                *has_ended = true;
            }
            pending().await
        };
        tokio::select! {
            response = exchange => response,
            never = driven => never,
        }
    }

    /// Returns whether the connection is open and can carry a request now.
    async fn is_reusable(&mut self) -> bool {
        poll_fn(|cx| {
            if self.has_ended {
                return Poll::Ready(false);
            }
            if self.driver.as_mut().poll(cx).is_ready() {
                self.has_ended = true;
                return Poll::Ready(false);
            }
            Poll::Ready(self.sender.poll_ready(cx).is_ready() && !self.sender.is_closed())
        })
        .await
    }
}

/// Connections that are kept.
const MAX_IDLE: usize = 32;

/// Shorter than the keep-alive time of usual servers (uvicorn: 5 s is an exception, which costs a repetition).
const MAX_IDLE_TIME: Duration = Duration::from_secs(30);

/// Requests at one time; further ones wait within their time limit.
const MAX_CONCURRENT: usize = 256;

/// The least that hyper accepts.
const MIN_HEAD_LEN: usize = 8192;

/// In bytes.
pub(crate) const MAX_BODY_LEN: usize = 64 * 1024;

/// The time limit of a TCP connect to each address.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
