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
        backend_connector::{self, BackendConnector},
        body::{Body, BodyStatus},
        pooled::PooledConnector,
    },
    lifecycle::tasks::Tasks,
    net::{
        descriptors::{DescriptorBudget, DescriptorUse, is_exhaustion},
        dial::DialError,
        early_response::EarlyResponseStream,
        resolver::Resolver,
    },
    upstream::{connect::BackendDialer, lease::Lease},
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
    client::legacy::{self, Client, connect::capture_connection},
    rt::{TokioExecutor, TokioIo, TokioTimer},
};
use std::{
    error::Error,
    io, mem,
    sync::{Arc, atomic::Ordering},
    time::Duration,
};

/// The client for plain requests, with its pool of idle connections.
#[derive(Debug)]
pub(crate) struct HttpClient {
    pooled: Client<PooledConnector<BackendConnector>, Body>,
    resolver: Resolver,
    descriptors: Arc<DescriptorBudget>,
    tasks: Tasks,
}

/// Why a request received no response.
#[derive(Debug, thiserror::Error)]
pub(crate) enum SendError {
    #[error(transparent)]
    Pooled(legacy::Error),
    #[error("no connection")]
    Connect(#[from] DialError),
    #[error("no HTTP answer")]
    Broken(#[from] hyper::Error),
}

// === impl HttpClient ===

impl HttpClient {
    pub(crate) fn new(
        resolver: Resolver,
        descriptors: Arc<DescriptorBudget>,
        tasks: Tasks,
    ) -> Self {
        let connector = BackendConnector::new(resolver.clone(), descriptors.clone());
        let pooled = Client::builder(TokioExecutor::new())
            .pool_timer(TokioTimer::new())
            .pool_idle_timeout(POOL_IDLE_TIMEOUT)
            .pool_max_idle_per_host(MAX_IDLE_PER_HOST)
            .http1_preserve_header_case(true)
            .http1_title_case_headers(true)
            .http1_max_headers(MAX_HEADERS)
            .http1_max_buf_size(MAX_BUF_LEN)
            .set_host(false)
            .build(PooledConnector::new(connector, descriptors.clone()));
        HttpClient {
            pooled,
            resolver,
            descriptors,
            tasks,
        }
    }

    /// Sends a request whose target is a path, over a pooled connection or a new one of `dialer`. `body_status` is that
    /// of its body. The caller sets the deadline of the response.
    pub(crate) async fn send(
        &self,
        lease: &Lease,
        dialer: BackendDialer,
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
            let response =
                backend_connector::with_dialer(dialer, self.pooled.request(request)).await;
            if response.as_ref().is_err_and(legacy::Error::is_connect) {
                self.resolver.expire(host);
            }
            let response = response.map_err(SendError::Pooled)?;
            if let Some(connection) = connection
                && !body_status.complete.load(Ordering::Relaxed)
                && let Some(connected) = connection.connection_metadata().as_ref()
            {
                connected.poison();
            }
            return Ok(response);
        }
        let (resolver, descriptors) = (&self.resolver, &self.descriptors);
        let connected = dialer.connect(resolver, descriptors, DescriptorUse::Request);
        let stream = connected.await?;
        let (mut sender, connection) = http1::Builder::new()
            .preserve_header_case(true)
            .title_case_headers(true)
            .max_headers(MAX_HEADERS)
            .max_buf_size(MAX_BUF_LEN)
            .handshake(TokioIo::new(EarlyResponseStream::new(stream)))
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
            SendError::Connect(_) => true,
            SendError::Broken(_) => false,
        }
    }

    /// Returns whether the cause is exhausted resources of this process or machine, not the backend.
    pub(crate) fn is_exhaustion(&self) -> bool {
        match self {
            SendError::Pooled(error) => is_caused_by_exhaustion(error),
            SendError::Connect(error) => error.is_exhaustion(),
            SendError::Broken(_) => false,
        }
    }
}

fn is_caused_by_exhaustion(error: &(dyn Error + 'static)) -> bool {
    let mut cause = Some(error);
    while let Some(error) = cause {
        let dial: Option<&DialError> = error.downcast_ref();
        let io: Option<&io::Error> = error.downcast_ref();
        if dial.is_some_and(DialError::is_exhaustion) || io.is_some_and(is_exhaustion) {
            return true;
        }
        cause = error.source();
    }
    false
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

/// The bytes of a response that are read ahead of its client: two TLS records. It is also the maximum length of a
/// response head, twice what h11 and HAProxy accept. For a client that does not read, three buffers have this size.
/// hyper's default is 408 KiB.
pub(crate) const MAX_BUF_LEN: usize = 32 * 1024;

/// Less than the idle limits of Python servers (gunicorn's threads 2 s, uvicorn 5 s): a pooled connection that is just
/// being closed costs a retry, which a request with a body cannot have.
const POOL_IDLE_TIMEOUT: Duration = Duration::from_millis(1500);

/// Idle connections kept for each backend.
const MAX_IDLE_PER_HOST: usize = 32;
