//! Connections to backends: for a handshake, and for a plain request, pooled or separate.
//!
//! Only connections that are the same for every client are pooled: TCP, without TLS and without a PROXY header; those
//! from other source addresses (`sources`) separately. A
//! backend that authenticates connections (NTLM, Negotiate) has a connection for each connection of a client
//! ([`bound`]), over any transport.
//!
//! [`bound`]: crate::http::bound
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
        bound::{BindingTarget, BoundUse},
        connection_auth,
        idle_pool::IdlePool,
        peer::Peer,
        pooled::{BackendConnection, MAX_BUF_LEN, MAX_HEADERS},
    },
    lifecycle::tasks::Tasks,
    net::{
        descriptors::{BusyGuard, DescriptorBudget, DescriptorUse},
        dial::DialError,
        early_response::EarlyResponseStream,
        resolver::Resolver,
    },
    upstream::{
        connect::BackendDialer,
        lease::{Lease, ReuseKey},
    },
};
use ::http::{HeaderValue, Method, Request, Response, StatusCode, Version, header};
use hyper::{
    body::{Body as _, Incoming},
    client::conn::http1,
};
use hyper_util::rt::TokioIo;
use std::{
    net::IpAddr,
    sync::{Arc, atomic::Ordering},
    time::Duration,
};
use tokio::time::timeout;

/// The client for plain requests, with its pool of idle connections.
#[derive(Debug)]
pub(crate) struct HttpClient {
    idle: Arc<IdlePool>,
    resolver: Resolver,
    descriptors: Arc<DescriptorBudget>,
    tasks: Tasks,
}

/// The party that a request comes from.
#[derive(Debug, Clone, Copy)]
pub(crate) struct RequestSender<'a> {
    pub(crate) peer: &'a Peer,
    /// The client, which may be another party than the peer.
    pub(crate) client: IpAddr,
    /// The version of the peer's connection.
    pub(crate) version: Version,
}

/// What a response holds of its connection until its body has been read.
#[derive(Debug, Default)]
pub(crate) struct ConnectionUse {
    _busy: Option<BusyGuard>,
    _bound: Option<BoundUse>,
}

/// Why a request received no response.
#[derive(Debug, thiserror::Error)]
pub(crate) enum SendError {
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
        HttpClient {
            idle: IdlePool::new(tasks.clone()),
            resolver,
            descriptors,
            tasks,
        }
    }

    /// Sends a request, whose target is a path, to the lease's backend in `pool`; `dialer` makes a new connection.
    /// `body_status` is that of the body. The caller sets the deadline of the response.
    pub(crate) async fn send(
        &self,
        sender: RequestSender<'_>,
        pool: &Arc<str>,
        (lease, dialer): (&Lease, &BackendDialer),
        request: Request<Body>,
        body_status: &BodyStatus,
    ) -> Result<(Response<Incoming>, ConnectionUse), SendError> {
        let has_body = !request.body().is_end_stream();
        let attempt = SendAttempt {
            client: self,
            lease,
            dialer,
            peer: sender.peer,
            target: BindingTarget {
                pool: pool.clone(),
                backend: lease.backend().name().clone(),
                client: sender.client,
            },
            is_multiplexed: sender.version == Version::HTTP_2,
            has_credentials: connection_auth::has_credentials(request.headers()),
            reads_body: !has_body || BODY_METHODS.contains(request.method()),
            unsent_body: has_body.then_some(body_status),
        };
        if lease.reuses_connections()
            && (attempt.has_credentials || sender.peer.bound.is_bound(&attempt.target))
        {
            return attempt.send_bound(request).await;
        }
        match lease.reuse_key().filter(|_| attempt.reads_body) {
            Some(key) => attempt.send_pooled(key, request).await,
            None => attempt.send_once(request).await,
        }
    }

    /// Opens a connection that may serve several requests.
    async fn open(&self, dialer: &BackendDialer) -> Result<BackendConnection, SendError> {
        let permit = self.descriptors.acquire(DescriptorUse::Request);
        let permit = permit.ok_or(DialError::NoDescriptor)?;
        let (resolver, descriptors) = (&self.resolver, &self.descriptors);
        let stream = dialer.connect_reusable(resolver, descriptors).await?;
        Ok(BackendConnection::open(stream, permit, &self.tasks).await?)
    }
}

/// One request to one backend.
struct SendAttempt<'a> {
    client: &'a HttpClient,
    lease: &'a Lease,
    dialer: &'a BackendDialer,
    peer: &'a Peer,
    target: BindingTarget,
    /// Whether the client may send several requests at a time.
    is_multiplexed: bool,
    /// Whether the request has credentials that apply to its connection.
    has_credentials: bool,
    /// Whether the method is one whose body every server reads, or there is no body.
    reads_body: bool,
    /// The status of the body, if there is one.
    unsent_body: Option<&'a BodyStatus>,
}

// === impl SendAttempt ===

impl SendAttempt<'_> {
    /// Sends the request on a connection that belongs to the connection of its client.
    async fn send_bound(
        &self,
        mut request: Request<Body>,
    ) -> Result<(Response<Incoming>, ConnectionUse), SendError> {
        let (bound, id_hash) = (&self.peer.bound, self.lease.id_hash());
        let (credentials, several) = (self.has_credentials, self.is_multiplexed);
        let acquired = bound.acquire(&self.target, id_hash, credentials, several);
        let mut bound = acquired.await;
        if let Some(connection) = bound.connection.as_mut() {
            // The last response has been passed on, but its connection may not have noticed that yet.
            let is_ready = timeout(READY_WAIT, connection.ready()).await == Ok(true);
            bound.connection.take_if(|_| !is_ready);
        }
        let response = loop {
            let (connection, reused) = match &mut *bound.connection {
                Some(connection) => (connection, true),
                none => {
                    let opened = self.client.open(self.dialer).await?;
                    (none.insert(opened), false)
                }
            };
            match connection.try_send(request).await {
                Ok(response) => break response,
                Err(mut error) => {
                    *bound.connection = None;
                    match error.take_message() {
                        Some(unsent) if reused => request = unsent,
                        _ => return Err(error.into_error().into()),
                    }
                }
            }
        };
        let is_challenge = matches!(
            response.status(),
            StatusCode::UNAUTHORIZED | StatusCode::PROXY_AUTHENTICATION_REQUIRED
        );
        bound.record_challenge(self.has_credentials && is_challenge);
        let connection = bound.connection.as_ref();
        let busy = connection.map(BackendConnection::busy_guard);
        // Closes after the response.
        bound.connection.take_if(|_| !self.may_be_reused());
        let used = ConnectionUse {
            _busy: busy,
            _bound: Some(bound),
        };
        Ok((response, used))
    }

    /// Sends the request on an idle connection of the pool or a new one, which returns to the pool or becomes bound.
    async fn send_pooled(
        &self,
        key: ReuseKey,
        mut request: Request<Body>,
    ) -> Result<(Response<Incoming>, ConnectionUse), SendError> {
        let idle = &self.client.idle;
        let (connection, response) = loop {
            let (mut connection, reused) = match idle.take(&key) {
                Some(connection) => (connection, true),
                None => (self.client.open(self.dialer).await?, false),
            };
            match connection.try_send(request).await {
                Ok(response) => break (connection, response),
                Err(mut error) => match error.take_message() {
                    // The backend has closed an idle connection.
                    Some(unsent) if reused => request = unsent,
                    _ => return Err(error.into_error().into()),
                },
            }
        };
        let mut used = ConnectionUse {
            _busy: Some(connection.busy_guard()),
            _bound: None,
        };
        let (bound, id_hash) = (&self.peer.bound, self.lease.id_hash());
        match (
            connection_auth::is_required_by(response.headers()),
            self.may_be_reused(),
        ) {
            (true, true) => used._bound = Some(bound.adopt(&self.target, id_hash, connection)),
            (true, false) => bound.bind(&self.target, id_hash),
            (false, true) => idle.put_when_ready(key, connection),
            // Closes after the response.
            (false, false) => drop(connection),
        }
        Ok((response, used))
    }

    /// Sends the request on a connection that closes after the response.
    async fn send_once(
        &self,
        mut request: Request<Body>,
    ) -> Result<(Response<Incoming>, ConnectionUse), SendError> {
        let (resolver, descriptors) = (&self.client.resolver, &self.client.descriptors);
        let connected = self
            .dialer
            .connect(resolver, descriptors, DescriptorUse::Request);
        let stream = connected.await?;
        let (mut sender, connection) = http1::Builder::new()
            .preserve_header_case(true)
            .title_case_headers(true)
            .max_headers(MAX_HEADERS)
            .max_buf_size(MAX_BUF_LEN)
            .handshake(TokioIo::new(EarlyResponseStream::new(stream)))
            .await?;
        self.client.tasks.spawn(async {
            // Errors of the connection reach the future that awaits the response.
            let _ = connection.await;
        });
        let close = HeaderValue::from_static("close");
        request.headers_mut().insert(header::CONNECTION, close);
        let response = sender.send_request(request).await?;
        if self.lease.reuses_connections() && connection_auth::is_required_by(response.headers()) {
            self.peer.bound.bind(&self.target, self.lease.id_hash());
        }
        Ok((response, ConnectionUse::default()))
    }

    /// Returns whether the backend has read the body, now that the response has begun.
    fn may_be_reused(&self) -> bool {
        let is_sent = |body: &BodyStatus| body.complete.load(Ordering::Relaxed);
        self.reads_body && self.unsent_body.is_none_or(is_sent)
    }
}

// === impl SendError ===

impl SendError {
    /// Returns whether the backend never received the request.
    pub(crate) fn is_connect(&self) -> bool {
        match self {
            SendError::Connect(_) => true,
            SendError::Broken(_) => false,
        }
    }

    /// Returns whether the cause is exhausted resources of this process or machine, not the backend.
    pub(crate) fn is_exhaustion(&self) -> bool {
        match self {
            SendError::Connect(error) => error.is_exhaustion(),
            SendError::Broken(_) => false,
        }
    }
}

/// The methods whose body every server reads; see the module documentation.
const BODY_METHODS: [Method; 3] = [Method::POST, Method::PUT, Method::PATCH];

/// The time in which a bound connection must be ready after its response has been passed on.
const READY_WAIT: Duration = Duration::from_secs(1);
