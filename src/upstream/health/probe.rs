//! What is asked, how, and the way to it: a backend's place in a pool, as the configuration in force has it.

use crate::{
    config::{BackendAddress, Check, Health},
    upstream::{Backend, BackendState, DialError, DialedStream, Resolver, entry::Member},
};
use std::{sync::Arc, time::Duration};
use tokio::{
    io::{AsyncRead, AsyncWrite},
    time::Instant,
};

/// How one backend is checked: as its pool says, on connections like those of sessions.
#[derive(Debug, Clone)]
pub struct HealthCheck {
    pool: Arc<str>,
    entry: Arc<Member>,
    pub(super) how: Health,
    pub(super) slow_start: Duration,
}

/// What a check speaks on.
pub(super) trait HealthStream: AsyncRead + AsyncWrite + Send + Unpin {}

impl<S: AsyncRead + AsyncWrite + Send + Unpin> HealthStream for S {}

// === impl HealthCheck ===

impl HealthCheck {
    pub(in crate::upstream) fn new(
        pool: &Arc<str>,
        entry: &Arc<Member>,
        how: &Health,
        slow_start: Duration,
    ) -> Self {
        HealthCheck {
            pool: pool.clone(),
            entry: entry.clone(),
            how: how.clone(),
            slow_start,
        }
    }

    /// The pool that has it checked; others may have it too.
    pub fn pool(&self) -> &Arc<str> {
        &self.pool
    }

    /// Who is checked.
    pub fn backend(&self) -> &Arc<Backend> {
        &self.entry.backend
    }

    /// How it stands in that pool.
    pub fn state(&self, now: Instant) -> BackendState {
        self.backend().state(now, self.slow_start)
    }

    /// When it will be warm, if it is not.
    pub(super) fn warm_at(&self) -> Option<Instant> {
        self.backend().warm_at(self.slow_start)
    }

    /// Whether its pool has nobody checked.
    pub fn is_off(&self) -> bool {
        self.how.check == Check::Off
    }

    /// What is asked for in `Host`: the backend's authority, or the name by which DNS has it; many servers know only that.
    pub(super) fn host(&self) -> String {
        match (self.entry.terms.dns(), self.backend().address()) {
            (Some((name, _)), BackendAddress::Tcp { port, .. }) => {
                format!("{}:{port}", name.host())
            }
            (_, BackendAddress::Tcp { .. }) => {
                let name = self.backend().name();
                let authority = name.split_once("://").map(|(_, authority)| authority);
                authority.unwrap_or(name).to_owned()
            }
            // A socket has no authority of its own.
            (_, BackendAddress::Unix(_)) => "localhost".to_owned(),
        }
    }

    /// A connection, before TLS. The caller sets the deadline.
    pub(super) async fn dial(&self, resolver: &Resolver) -> Result<DialedStream, DialError> {
        self.entry.dial(resolver, None).await
    }

    /// Up to where HTTP begins.
    pub(super) async fn secure(
        &self,
        connection: DialedStream,
    ) -> Result<Box<dyn HealthStream>, DialError> {
        Ok(match (connection, self.entry.tls()) {
            (DialedStream::Unix(unix), _) => Box::new(unix),
            (DialedStream::Tcp(tcp), None) => Box::new(tcp),
            (DialedStream::Tcp(tcp), Some(tls)) => Box::new(tls.connect_tls(tcp).await?),
        })
    }
}
