//! The connector of the client for plain requests: connects as the request demands for which it is called.
//!
//! The client calls its connector with a URI only. What else a connection needs, such as source addresses and time
//! limits, is in the [`BackendDialer`] of the request. It is a task-local value: the client calls the connector when
//! the future of the request is polled.

use crate::{
    net::{
        descriptors::{DescriptorBudget, DescriptorUse},
        dial::DialError,
        happy_eyeballs::AttemptPermits,
        resolver::Resolver,
    },
    upstream::connect::BackendDialer,
};
use ::http::Uri;
use hyper_util::rt::TokioIo;
use socket2::{SockRef, TcpKeepalive};
use std::{
    pin::Pin,
    sync::Arc,
    task::{self, Poll},
    time::Duration,
};
use tokio::{net::TcpStream, task_local};
use tower_service::Service;

/// Connects by the dialer of the current request ([`with_dialer`]).
#[derive(Debug, Clone)]
pub(crate) struct BackendConnector {
    resolver: Resolver,
    descriptors: Arc<DescriptorBudget>,
}

/// Why there is no connection.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ConnectorError {
    #[error("no connection")]
    Dial(#[from] DialError),
    #[error("internal error: a connection without a request")]
    NoRequest,
}

task_local! {
    /// The dialer of the request whose future is polled.
    static DIALER: BackendDialer;
}

/// Awaits a request of a client with a [`BackendConnector`]; a new connection for it is made by `dialer`.
pub(crate) async fn with_dialer<F: Future>(dialer: BackendDialer, request: F) -> F::Output {
    DIALER.scope(dialer, request).await
}

// === impl BackendConnector ===

impl BackendConnector {
    pub(crate) fn new(resolver: Resolver, descriptors: Arc<DescriptorBudget>) -> Self {
        BackendConnector {
            resolver,
            descriptors,
        }
    }
}

impl Service<Uri> for BackendConnector {
    type Response = TokioIo<TcpStream>;
    type Error = ConnectorError;
    type Future = Pin<Box<dyn Future<Output = Result<Self::Response, ConnectorError>> + Send>>;

    fn poll_ready(&mut self, _: &mut task::Context<'_>) -> Poll<Result<(), ConnectorError>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, _: Uri) -> Self::Future {
        let dialer = DIALER.try_with(Clone::clone);
        let (resolver, descriptors) = (self.resolver.clone(), self.descriptors.clone());
        Box::pin(async move {
            let dialer = dialer.map_err(|_| ConnectorError::NoRequest)?;
            let permits = AttemptPermits::Budget(&descriptors, DescriptorUse::Request);
            let stream = dialer.connect_tcp(&resolver, permits).await?;
            let keepalive = TcpKeepalive::new().with_time(KEEPALIVE);
            // Without it a vanished backend is noticed by the time limits only.
            let _ = SockRef::from(&stream).set_tcp_keepalive(&keepalive);
            Ok(TokioIo::new(stream))
        })
    }
}

/// TCP keepalive, by which the kernel detects a backend that vanished.
const KEEPALIVE: Duration = Duration::from_secs(60);
