//! A small web client with a deadline and a size limit, for requests of Lockgate's own, such as those to the ACME CA
//! and to the issuers of tokens.

use crate::net::{
    dns::MAX_ENDPOINTS,
    happy_eyeballs::AddressHistory,
    resolver::Resolver,
    web_stream::{WebConnectError, WebDialer},
};
use bytes::Bytes;
use futures_util::future::join_all;
use http::{Request, Response, StatusCode, Uri, header};
use http_body_util::{BodyExt, Full, Limited};
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use rustls::{ClientConfig, pki_types::ServerName};
use std::{
    error::Error as StdError,
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, SystemTime},
};
use tokio::{
    net::lookup_host,
    time::{Instant, timeout},
};
use tokio_rustls::TlsConnector;

/// The client. Clones share the last `Retry-After`.
#[derive(Clone)]
pub(crate) struct WebClient {
    tls: Arc<ClientConfig>,
    resolver: Resolver,
    /// The addresses that did not answer a short time ago.
    history: Arc<AddressHistory>,
    /// The end of the last `Retry-After`.
    retry_not_before: Arc<Mutex<Option<Instant>>>,
    /// Whether http:// URLs are accepted, too.
    cleartext: bool,
    /// The time limit of a connection, a request and its response.
    timeout: Duration,
}

/// An error of a request.
#[derive(Debug, thiserror::Error)]
pub(crate) enum WebClientError {
    #[error("{0} is not the URL of a web server (https://)")]
    Url(Uri),
    #[error("no answer from {host} within {} s", .limit.as_secs())]
    Timeout { host: String, limit: Duration },
    #[error(transparent)]
    Connect(#[from] WebConnectError),
    #[error("{host} sent an invalid HTTP response")]
    Http {
        host: String,
        #[source]
        source: Box<dyn StdError + Send + Sync>,
    },
}

// === impl WebClient ===

impl WebClient {
    pub(crate) fn new(tls: Arc<ClientConfig>, resolver: Resolver) -> Self {
        WebClient {
            tls,
            resolver,
            history: Arc::default(),
            retry_not_before: Arc::default(),
            cleartext: false,
            timeout: REQUEST_TIMEOUT,
        }
    }

    /// Accepts http:// URLs, too, and waits up to `timeout` for a response.
    pub(crate) fn with_cleartext(self, timeout: Duration) -> Self {
        WebClient {
            cleartext: true,
            timeout,
            ..self
        }
    }

    /// Sends a request and returns the whole response. Remembers the `Retry-After` of a 429 or 503.
    pub(crate) async fn send(
        &self,
        request: Request<Bytes>,
    ) -> Result<Response<Bytes>, WebClientError> {
        let uri = request.uri().clone();
        let is_accepted = match uri.scheme_str() {
            Some("https") => true,
            Some("http") => self.cleartext,
            _ => false,
        };
        let Some(host) = uri.host().filter(|_| is_accepted) else {
            return Err(WebClientError::Url(uri));
        };
        let host = host.trim_matches(['[', ']']).to_owned();
        let response = timeout(self.timeout, self.exchange(request, &host)).await;
        let limit = self.timeout;
        let response = response.unwrap_or(Err(WebClientError::Timeout { host, limit }))?;
        if let StatusCode::TOO_MANY_REQUESTS | StatusCode::SERVICE_UNAVAILABLE = response.status() {
            let mut retry_not_before = self
                .retry_not_before
                .lock()
                .unwrap_or_else(PoisonError::into_inner);
            *retry_not_before =
                retry_after(&response).and_then(|wait| Instant::now().checked_add(wait));
        }
        Ok(response)
    }

    /// Returns whether the C library, too, finds an address for the host of `url`, within [`C_LIBRARY_TIMEOUT`].
    ///
    /// `rustls-acme` resolves the name by the C library before each request. Where that is slow or impossible, because
    /// a DNS server is silent or a static program has no modules, the order needs a library that uses this client.
    pub(crate) async fn is_resolved_by_c_library(&self, url: &str) -> bool {
        let Some((host, port)) = url.parse().ok().and_then(|uri: Uri| {
            let host = uri.host()?.trim_matches(['[', ']']).to_owned();
            Some((host, uri.port_u16().unwrap_or(443)))
        }) else {
            return false;
        };
        let found = timeout(C_LIBRARY_TIMEOUT, lookup_host((host, port))).await;
        found.is_ok_and(|found| found.is_ok_and(|mut addresses| addresses.next().is_some()))
    }

    /// Returns the remaining time of the `Retry-After` of the last 429 or 503, rounded up to whole seconds.
    pub(crate) fn retry_after(&self) -> Option<Duration> {
        let retry_not_before = self.retry_not_before.lock();
        let until = (*retry_not_before.unwrap_or_else(PoisonError::into_inner))?;
        let left = until.checked_duration_since(Instant::now())?;
        Some(Duration::from_secs(left.as_secs_f64().ceil() as u64))
    }

    /// Sends a request on a new connection. A certificate takes about twelve requests in sixty days, too few to reuse
    /// connections.
    async fn exchange(
        &self,
        mut request: Request<Bytes>,
        host: &str,
    ) -> Result<Response<Bytes>, WebClientError> {
        let owned = || host.to_owned();
        let uri = request.uri().clone();
        let is_https = uri.scheme_str() == Some("https");
        let port = uri.port_u16().unwrap_or(if is_https { 443 } else { 80 });
        let tls = if is_https {
            let name = ServerName::try_from(owned());
            let name = name.map_err(|_| WebClientError::Url(uri.clone()))?;
            Some((TlsConnector::from(self.tls.clone()), name))
        } else {
            None
        };
        let stream = self.dialer().connect(host, port, tls).await?;
        let http = |source: Box<dyn StdError + Send + Sync>| WebClientError::Http {
            host: owned(),
            source,
        };
        let connection_parts = http1::handshake(TokioIo::new(stream)).await;
        let (mut sender, connection) = connection_parts.map_err(|error| http(error.into()))?;

        // In origin-form, with a Host (RFC 9112 §3.2.1).
        let authority = uri.authority().map_or("", |authority| authority.as_str());
        let headers = request.headers_mut();
        headers.insert(
            header::HOST,
            authority
                .try_into()
                .map_err(|_| WebClientError::Url(uri.clone()))?,
        );
        headers.insert(
            header::USER_AGENT,
            header::HeaderValue::from_static(USER_AGENT),
        );
        let path = uri.path_and_query().map_or("/", |path| path.as_str());
        *request.uri_mut() = path.parse().map_err(|_| WebClientError::Url(uri.clone()))?;
        let exchange = async {
            let response = sender.send_request(request.map(Full::new)).await;
            let (parts, body) = response.map_err(|error| http(error.into()))?.into_parts();
            let body = Limited::new(body, MAX_RESPONSE_LEN).collect().await;
            Ok(Response::from_parts(parts, body.map_err(http)?.to_bytes()))
        };
        let driver = async {
            // Errors of the connection also surface in the response.
            let _ = connection.await;
            std::future::pending().await
        };
        tokio::select! {
            response = exchange => response,
            never = driver => never,
        }
    }

    /// Returns whether the host of `url` has several addresses, and one of them does not answer connects. A client that
    /// tries one address after the other could wait for minutes there.
    pub(crate) async fn has_silent_address(&self, url: &str) -> bool {
        let Ok(uri) = url.parse::<Uri>() else {
            return false;
        };
        let host = uri.host().unwrap_or_default().trim_matches(['[', ']']);
        let port = uri.port_u16().unwrap_or(443);
        let found = timeout(CONNECT_TIMEOUT, self.resolver.lookup(host)).await;
        let Ok(Ok(ips)) = found else {
            return false;
        };
        if ips.len() < 2 {
            return false;
        }
        let each = ips.iter().take(MAX_ENDPOINTS).map(async |ip| {
            let connected = self.dialer().tcp(&ip.to_string(), port).await;
            connected.is_err_and(|error| error.is_timeout())
        });
        join_all(each).await.contains(&true)
    }

    fn dialer(&self) -> WebDialer<'_> {
        WebDialer {
            resolver: &self.resolver,
            history: &self.history,
            connect_timeout: CONNECT_TIMEOUT,
        }
    }
}

/// Parses `Retry-After`: seconds, or a date (RFC 9110 §10.2.3). A date is relative to the `Date` of the response,
/// because this machine's clock may be wrong.
fn retry_after(response: &Response<Bytes>) -> Option<Duration> {
    let text = |name| response.headers().get(name)?.to_str().ok();
    let written = text(header::RETRY_AFTER)?.trim();
    if let Ok(wait) = written.parse::<u32>() {
        return Some(Duration::from_secs(wait.into()));
    }
    let until = httpdate::parse_http_date(written).ok()?;
    let now = text(header::DATE).and_then(|date| httpdate::parse_http_date(date).ok());
    until
        .duration_since(now.unwrap_or_else(SystemTime::now))
        .ok()
}

/// The timeout for a connection, a request and its response. Let's Encrypt takes up to 10 s to finalize.
const REQUEST_TIMEOUT: Duration = Duration::from_secs(30);

/// The time limit of a TCP connect to each address.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);
/// A query without an answer takes the C library 5 s.
const C_LIBRARY_TIMEOUT: Duration = Duration::from_secs(1);

/// A chain of four is 8 KiB.
const MAX_RESPONSE_LEN: usize = 1024 * 1024;

/// RFC 8555 §6.1.
const USER_AGENT: &str = concat!("lockgate/", env!("CARGO_PKG_VERSION"));

#[cfg(test)]
mod tests {
    use super::*;
    use crate::net::{pem, tls_client};
    use std::net::{Ipv4Addr, Ipv6Addr};
    use tokio::net::{TcpListener, TcpSocket, TcpStream};

    #[tokio::test]
    async fn address_of_the_server_that_does_not_answer_costs_no_time() {
        // The accept queue is full, so that the kernel ignores further connections.
        let socket = TcpSocket::new_v4().unwrap();
        socket.bind((Ipv4Addr::LOCALHOST, 0).into()).unwrap();
        let dead = socket.listen(0).unwrap();
        let address = dead.local_addr().unwrap();
        let _queued = TcpStream::connect(address).await.unwrap();
        let alive = TcpListener::bind((Ipv6Addr::LOCALHOST, address.port()));
        let alive = alive.await.unwrap();
        let client = WebClient::new(
            tls_client::client_config(pem::public_roots()),
            Resolver::system(),
        );
        let dialer = client.dialer();
        let connected = dialer.tcp("localhost", address.port());
        let connected = timeout(CONNECT_TIMEOUT / 2, connected).await.unwrap();
        let peer = connected.unwrap().peer_addr().unwrap();
        assert_eq!(peer, alive.local_addr().unwrap());
        let url = |host: &str| format!("https://{host}:{}/directory", address.port());
        assert!(!client.has_silent_address(&url("[::1]")).await);
        assert!(client.has_silent_address(&url("localhost")).await);
        drop(dead);
        assert!(!client.has_silent_address(&url("localhost")).await);
    }
}
