//! Connecting to a member's backend: the time limits, and the record of the result in the backend's health.
//!
//! Each connect of a request or session records its own result here, so that the record does not depend on the caller.

use crate::{
    net::{
        descriptors::{DescriptorBudget, DescriptorPermit, DescriptorUse},
        dial::{ConnAddrs, DialError, DialedStream},
        happy_eyeballs::AttemptPermits,
        resolver::Resolver,
        socket::{BackendStream, Socket},
    },
    observe::logging::ErrorChain,
    upstream::member::Member,
};
use socket2::{SockRef, TcpKeepalive};
use std::{sync::Arc, time::Duration};
use tokio::time::{Instant, timeout_at};

/// The time limits of one connect.
#[derive(Debug, Clone, Copy)]
pub(crate) struct ConnectLimits {
    /// The limit of each address.
    pub(crate) address: Duration,
    /// The limit of the TLS handshake.
    pub(crate) tls: Duration,
    /// The limit of the whole connect, with the lookup of the name and all addresses.
    pub(crate) total: Duration,
}

/// Connects to the backend of a lease on behalf of a client.
#[derive(Debug, Clone)]
pub(crate) struct BackendDialer {
    member: Arc<Member>,
    addrs: ConnAddrs,
    limits: ConnectLimits,
}

/// Records a failure if a connect is cancelled, usually because the client has disconnected, although the backend had
/// time to answer. Clients have deadlines of their own, which may all expire before ours.
struct CancelGuard<'a> {
    member: &'a Member,
    since: Instant,
    is_armed: bool,
}

/// The error of a connect that was cancelled.
#[derive(Debug, thiserror::Error)]
#[error("no connection within {0:.1?}; then the request ended")]
struct Cancelled(Duration);

// === impl ConnectLimits ===

impl ConnectLimits {
    /// Computes the limits at `now`. `connect_timeout`: as configured. `deadline`: the end of the handshake or of the
    /// wait. `retry_until`: the time until which another backend may be tried afterwards, if there is one. At most half
    /// of that time is used, so that the other half is left for the other backend.
    pub(crate) fn new(
        connect_timeout: Duration,
        deadline: Instant,
        retry_until: Option<Instant>,
        now: Instant,
    ) -> Self {
        let left = deadline.saturating_duration_since(now);
        match retry_until {
            None => ConnectLimits {
                address: connect_timeout,
                tls: left,
                total: left,
            },
            Some(retry_until) => {
                let half = left.min(retry_until.saturating_duration_since(now)) / 2;
                ConnectLimits {
                    address: connect_timeout.min(half),
                    tls: connect_timeout.min(half),
                    total: half,
                }
            }
        }
    }

    /// Returns the limits of a connect after which nothing else is tried.
    pub(crate) fn alone(connect_timeout: Duration) -> Self {
        ConnectLimits {
            address: connect_timeout,
            tls: connect_timeout,
            // A name may have several addresses, and its lookup takes time, too.
            total: connect_timeout.saturating_mul(4),
        }
    }
}

// === impl BackendDialer ===

impl BackendDialer {
    pub(crate) fn new(member: Arc<Member>, addrs: ConnAddrs, limits: ConnectLimits) -> Self {
        BackendDialer {
            member,
            addrs,
            limits,
        }
    }

    /// Connects up to the point where HTTP begins, with a descriptor of the budget.
    pub(crate) async fn connect(
        &self,
        resolver: &Resolver,
        descriptors: &Arc<DescriptorBudget>,
        used_for: DescriptorUse,
    ) -> Result<BackendStream, DialError> {
        let permit = descriptors.acquire(used_for);
        let permit = permit.ok_or(DialError::NoDescriptor)?;
        let permits = AttemptPermits::Budget(descriptors, used_for);
        self.connect_with(resolver, permits, Some(permit)).await
    }

    /// Connects up to the point where HTTP begins. The connection is kept between two requests, and the caller has the
    /// permit.
    pub(crate) async fn connect_reusable(
        &self,
        resolver: &Resolver,
        descriptors: &Arc<DescriptorBudget>,
    ) -> Result<BackendStream, DialError> {
        let permits = AttemptPermits::Budget(descriptors, DescriptorUse::Request);
        self.connect_with(resolver, permits, None).await
    }

    async fn connect_with(
        &self,
        resolver: &Resolver,
        permits: AttemptPermits<'_>,
        permit: Option<DescriptorPermit>,
    ) -> Result<BackendStream, DialError> {
        self.recorded(async {
            let limits = self.limits;
            let deadline = Instant::now() + limits.total;
            let dialled = self.dial(resolver, permits, deadline).await?;
            secure(&self.member, dialled, permit, limits.tls, deadline).await
        })
        .await
    }

    async fn dial(
        &self,
        resolver: &Resolver,
        permits: AttemptPermits<'_>,
        deadline: Instant,
    ) -> Result<DialedStream, DialError> {
        let (limits, addrs) = (self.limits, Some(self.addrs));
        let dialled = self.member.dial(resolver, permits, limits.address, addrs);
        timeout_at(deadline, dialled).await.unwrap_or({
            Err(DialError::Late {
                after: limits.total,
            })
        })
    }

    /// Awaits a connect and records its result.
    async fn recorded<T>(
        &self,
        connect: impl Future<Output = Result<T, DialError>>,
    ) -> Result<T, DialError> {
        let mut guard = CancelGuard {
            member: &self.member,
            since: Instant::now(),
            is_armed: true,
        };
        let result = connect.await;
        guard.is_armed = false;
        match &result {
            Ok(_) => self.member.backend.record_connected(),
            // No backend is at fault.
            Err(error) if error.is_exhaustion() => {}
            Err(error) if error.is_timeout() && !guard.is_conclusive() => {}
            Err(error) => {
                let why = ErrorChain(error).to_string();
                self.member.record_connect_failure(why, error.is_timeout());
            }
        }
        result
    }
}

/// Performs the TLS handshake if TLS is used, within `limit` and before `deadline`.
async fn secure(
    member: &Member,
    dialled: DialedStream,
    permit: Option<DescriptorPermit>,
    limit: Duration,
    deadline: Instant,
) -> Result<BackendStream, DialError> {
    if let DialedStream::Tcp(tcp) = &dialled {
        // Without it a vanished backend is noticed by the time limits only. It fails only on a socket that is closed.
        let keepalive = TcpKeepalive::new().with_time(KEEPALIVE);
        let _ = SockRef::from(tcp).set_tcp_keepalive(&keepalive);
    }
    Ok(match (dialled, member.tls()) {
        (DialedStream::Unix(unix), _) => BackendStream::Unix(Socket::with(unix, permit)),
        (DialedStream::Tcp(tcp), None) => BackendStream::Tcp(Socket::with(tcp, permit)),
        (DialedStream::Tcp(tcp), Some(tls)) => {
            let limit = limit.min(deadline.saturating_duration_since(Instant::now()));
            // Boxed: the state of the TLS handshake is large, and most backends do not use TLS.
            let socket = Socket::with(tcp, permit);
            let stream = Box::pin(tls.connect_tls_within(socket, limit)).await?;
            BackendStream::Tls(Box::new(stream))
        }
    })
}

// === impl CancelGuard ===

impl CancelGuard<'_> {
    /// Returns whether the backend had enough time, so that it is at fault.
    fn is_conclusive(&self) -> bool {
        let enough = CONCLUSIVE.min(self.member.config.connect_timeout / 2);
        self.since.elapsed() >= enough
    }
}

impl Drop for CancelGuard<'_> {
    fn drop(&mut self) {
        if self.is_armed && self.is_conclusive() {
            let why = Cancelled(self.since.elapsed()).to_string();
            self.member.record_connect_failure(why, true);
        }
    }
}

/// TCP keepalive, by which the kernel detects a backend that vanished.
const KEEPALIVE: Duration = Duration::from_secs(60);

/// More than a connect takes over any distance.
const CONCLUSIVE: Duration = Duration::from_millis(500);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn connect_leaves_half_of_the_time_for_another_backend() {
        let (now, second) = (Instant::now(), Duration::from_secs(1));
        let limits = |deadline: u32, retry_until: Option<u32>| {
            let at = |after: u32| now + after * second;
            ConnectLimits::new(2 * second, at(deadline), retry_until.map(at), now)
        };
        let alone = limits(10, None);
        assert_eq!((alone.address, alone.tls), (2 * second, 10 * second));
        let first = limits(10, Some(5));
        assert_eq!((first.address, first.tls), (2 * second, 2 * second));
        assert_eq!(first.total, 5 * second / 2);
        // A short `handshake_timeout`, or a short time for retries.
        assert_eq!(limits(2, Some(5)).address, second);
        assert_eq!(limits(10, Some(3)).address, 3 * second / 2);
    }
}
