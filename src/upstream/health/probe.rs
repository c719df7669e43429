//! What a health check sends and how it connects: a backend as a member of a pool in the active configuration.

use crate::{
    config::{BackendAddress, Check, Health},
    upstream::{Backend, BackendState, DialError, DialedStream, Resolver, entry::Member},
};
use std::{sync::Arc, time::Duration};
use tokio::{
    io::{AsyncRead, AsyncWrite},
    time::Instant,
};

/// The health check of one backend: configured by its pool, over connections like those of sessions.
#[derive(Debug, Clone)]
pub struct HealthCheck {
    pool: Arc<str>,
    member: Arc<Member>,
    pub(super) settings: Health,
    pub(super) slow_start: Duration,
}

/// The stream of a health check.
pub(super) trait HealthStream: AsyncRead + AsyncWrite + Send + Unpin {}

impl<S: AsyncRead + AsyncWrite + Send + Unpin> HealthStream for S {}

// === impl HealthCheck ===

impl HealthCheck {
    pub(in crate::upstream) fn new(
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
    pub(super) fn slow_start_ends(&self) -> Option<Instant> {
        self.backend().slow_start_ends(self.slow_start)
    }

    /// Returns whether the pool has health checks turned off.
    pub fn is_off(&self) -> bool {
        self.settings.check == Check::Off
    }

    /// Returns the value of `Host`: the backend's authority, or its DNS name, because many servers accept no other.
    pub(super) fn host(&self) -> String {
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

    /// Connects, without TLS. The caller sets the deadline.
    pub(super) async fn dial(&self, resolver: &Resolver) -> Result<DialedStream, DialError> {
        self.member.dial(resolver, None).await
    }

    /// Performs the TLS handshake on `connection` if TLS is used.
    pub(super) async fn secure(
        &self,
        connection: DialedStream,
    ) -> Result<Box<dyn HealthStream>, DialError> {
        Ok(match (connection, self.member.tls()) {
            (DialedStream::Unix(unix), _) => Box::new(unix),
            (DialedStream::Tcp(tcp), None) => Box::new(tcp),
            (DialedStream::Tcp(tcp), Some(tls)) => Box::new(tls.connect_tls(tcp).await?),
        })
    }
}
