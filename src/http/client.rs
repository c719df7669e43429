//! Connections to backends: for a handshake, and for a plain request, pooled or separate.
//!
//! Only connections that are the same for every client are pooled: TCP, without TLS and without a PROXY header.
//!
//! # Reuse
//!
//! A server that leaves a request body unread parses it as the next request on the connection: one client's body would
//! become another client's request. So a connection is not reused
//! - after a body with a method other than POST, PUT and PATCH, because many servers read no body of other methods
//!   (RFC 9110 §9.3: content of GET, HEAD, DELETE and OPTIONS has no defined semantics);
//! - if the response began before the whole body was sent;
//! - if the response was not read completely, or ends the connection (hyper);
//! - with `reuse = "off"`, for servers that leave bodies of POST unread, too.

use crate::{
    http::{
        body::{Body, BodyStatus},
        peer::Peer,
    },
    lifecycle::tasks::Tasks,
    net::{
        dial::{ConnAddrs, DialError, DialedStream},
        resolver::{ResolveError, Resolver},
        socket::{BackendStream, Socket},
    },
    upstream::lease::Lease,
};
use ::http::{
    HeaderValue, Method, Request, Response, Uri, header,
    uri::{Authority, Scheme},
};
use hyper::{
    body::{Body as _, Incoming},
    client::conn::http1,
};
use hyper_util::{
    client::legacy::{
        self, Client,
        connect::{HttpConnector, capture_connection, dns::Name},
    },
    rt::{TokioExecutor, TokioIo, TokioTimer},
};
use std::{
    mem,
    net::{IpAddr, SocketAddr},
    pin::Pin,
    sync::atomic::Ordering,
    task::{self, Poll},
    time::Duration,
    vec,
};
use tokio::time::timeout;
use tower_service::Service;

/// The client for plain requests, with its pool of idle connections.
#[derive(Debug)]
pub(crate) struct HttpClient {
    pooled: Client<HttpConnector<DnsConnectorResolver>, Body>,
    resolver: Resolver,
    tasks: Tasks,
}

/// Why a request received no response.
#[derive(Debug, thiserror::Error)]
pub(crate) enum SendError {
    #[error(transparent)]
    Pooled(legacy::Error),
    #[error("no connection")]
    Connect(#[from] DialError),
    #[error("no connection within {CONNECT_TIMEOUT:?}")]
    Timeout,
    #[error("no HTTP answer")]
    Broken(#[from] hyper::Error),
}

/// Resolves names in the same way as the dial of a handshake.
#[derive(Debug, Clone)]
struct DnsConnectorResolver(Resolver);

/// Addresses in the form that the client requires; the client sets the port itself.
struct ResolvedAddrs(vec::IntoIter<IpAddr>);

// === impl HttpClient ===

impl HttpClient {
    pub(crate) fn new(resolver: Resolver, tasks: Tasks) -> Self {
        let mut connector =
            HttpConnector::new_with_resolver(DnsConnectorResolver(resolver.clone()));
        connector.set_nodelay(true);
        connector.set_connect_timeout(Some(CONNECT_TIMEOUT));
        connector.set_keepalive(Some(KEEPALIVE));
        let pooled = Client::builder(TokioExecutor::new())
            .pool_timer(TokioTimer::new())
            .pool_idle_timeout(POOL_IDLE_TIMEOUT)
            .pool_max_idle_per_host(MAX_IDLE_PER_HOST)
            .http1_preserve_header_case(true)
            .http1_title_case_headers(true)
            .http1_max_headers(MAX_HEADERS)
            .set_host(false)
            .build(connector);
        HttpClient {
            pooled,
            resolver,
            tasks,
        }
    }

    /// Sends a request whose target is a path. `body_status` is that of its body. The caller sets the deadline of the
    /// response.
    pub(crate) async fn send(
        &self,
        lease: &Lease,
        peer: &Peer,
        mut request: Request<Body>,
        body_status: &BodyStatus,
    ) -> Result<Response<Incoming>, SendError> {
        let has_body = !request.body().is_end_stream();
        if let Some((host, port)) = lease.poolable_addr()
            && (!has_body || BODY_METHODS.contains(request.method()))
        {
            let mut target = mem::take(request.uri_mut()).into_parts();
            target.scheme = Some(Scheme::HTTP);
            target.authority = Some(authority(host, port));
            *request.uri_mut() =
                Uri::from_parts(target).expect("scheme, authority and path are set");
            let connection = has_body.then(|| capture_connection(&mut request));
            let response = self.pooled.request(request).await;
            let response = response.map_err(SendError::Pooled)?;
            if let Some(connection) = connection
                && !body_status.complete.load(Ordering::Relaxed)
                && let Some(connected) = connection.connection_metadata().as_ref()
            {
                connected.poison();
            }
            return Ok(response);
        }
        let stream = timeout(
            CONNECT_TIMEOUT,
            connect_backend(&self.resolver, lease, peer),
        );
        let stream = stream.await.map_err(|_| SendError::Timeout)??;
        let (mut sender, connection) = http1::Builder::new()
            .preserve_header_case(true)
            .title_case_headers(true)
            .max_headers(MAX_HEADERS)
            .handshake(TokioIo::new(stream))
            .await?;
        self.tasks.spawn(async {
            // Errors of the connection reach the future that awaits the response.
            let _ = connection.await;
        });
        let close = HeaderValue::from_static("close");
        request.headers_mut().insert(header::CONNECTION, close);
        Ok(sender.send_request(request).await?)
    }
}

// === impl SendError ===

impl SendError {
    /// Returns whether the backend never received the request.
    pub(crate) fn is_connect(&self) -> bool {
        match self {
            SendError::Pooled(error) => error.is_connect(),
            SendError::Connect(_) | SendError::Timeout => true,
            SendError::Broken(_) => false,
        }
    }
}

// === impl DnsConnectorResolver ===

impl Service<Name> for DnsConnectorResolver {
    type Response = ResolvedAddrs;
    type Error = ResolveError;
    type Future = Pin<Box<dyn Future<Output = Result<ResolvedAddrs, ResolveError>> + Send>>;

    fn poll_ready(&mut self, _: &mut task::Context<'_>) -> Poll<Result<(), ResolveError>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, name: Name) -> Self::Future {
        let resolver = self.0.clone();
        Box::pin(async move {
            Ok(ResolvedAddrs(
                resolver.lookup(name.as_str()).await?.into_iter(),
            ))
        })
    }
}

// === impl ResolvedAddrs ===

impl Iterator for ResolvedAddrs {
    type Item = SocketAddr;

    fn next(&mut self) -> Option<SocketAddr> {
        self.0.next().map(|address| SocketAddr::new(address, 0))
    }
}

/// Connects to the lease's backend on behalf of `peer`, up to the point where HTTP begins. The caller sets the
/// deadline.
pub(crate) async fn connect_backend(
    resolver: &Resolver,
    lease: &Lease,
    peer: &Peer,
) -> Result<BackendStream, DialError> {
    let addrs = ConnAddrs {
        client: (peer.address, peer.port).into(),
        local: peer.local,
    };
    Ok(match (lease.dial(resolver, addrs).await?, lease.tls()) {
        (DialedStream::Unix(unix), _) => BackendStream::Unix(Socket::new(unix)),
        (DialedStream::Tcp(tcp), None) => BackendStream::Tcp(Socket::new(tcp)),
        (DialedStream::Tcp(tcp), Some(tls)) => {
            // Boxed: the state of the TLS handshake is large, and most backends do not use TLS.
            let stream = Box::pin(tls.connect_tls(Socket::new(tcp))).await?;
            BackendStream::Tls(Box::new(stream))
        }
    })
}

fn authority(host: &str, port: u16) -> Authority {
    let authority = match host.contains(':') {
        true => format!("[{host}]:{port}"),
        false => format!("{host}:{port}"),
    };
    let authority = authority.parse();
    authority.expect("the host of a backend is a valid authority")
}

/// The methods whose body every server reads; see the module documentation.
const BODY_METHODS: [Method; 3] = [Method::POST, Method::PUT, Method::PATCH];

/// Maximum number of header fields of a backend's response; servers send far fewer.
pub(crate) const MAX_HEADERS: usize = 256;

/// The time from the first SYN to the established connection.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);

/// TCP keepalive, by which the kernel detects a backend that vanished.
const KEEPALIVE: Duration = Duration::from_secs(60);

/// Less than the idle limits of Python servers (gunicorn's threads 2 s, uvicorn 5 s): a pooled connection that is just
/// being closed costs a retry, which a request with a body cannot have.
const POOL_IDLE_TIMEOUT: Duration = Duration::from_millis(1500);

/// Idle connections kept for each backend.
const MAX_IDLE_PER_HOST: usize = 32;
