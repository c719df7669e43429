//! A lease on a backend: what a request or session holds, and what it reports about the backend.

use crate::{
    config::BackendAddress,
    net::{
        dial::{ConnAddrs, DialError, DialedStream},
        resolver::Resolver,
        subnet::{PackedSubnet, SubnetKey},
        tls_client::TlsClient,
    },
    observe::logging::ErrorChain,
    upstream::{backend::Backend, health::state::FailureSource, member::Member},
};
use http::HeaderValue;
use std::{
    error::Error,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
};
use tokio::time::Instant;

/// One unit of a backend's capacity. Held from before the dial until the request or session ends; released on drop.
/// Until [`Lease::settle`] it also counts as a handshake.
#[derive(Debug)]
pub struct Lease {
    member: Arc<Member>,
    /// The bits of the client's [`PackedSubnet`]; 0 after the handshake phase.
    handshaking: AtomicU64,
}

// === impl Lease ===

impl Lease {
    /// Acquires a lease for `client`; `None` if no capacity is left.
    pub(crate) fn acquire(member: &Arc<Member>, client: PackedSubnet) -> Option<Self> {
        member.try_acquire(client).then(|| Lease {
            member: member.clone(),
            handshaking: AtomicU64::new(client.bits()),
        })
    }

    pub(crate) fn id_hash(&self) -> u64 {
        self.member.id_hash
    }

    /// Returns the backend that the lease is on.
    pub fn backend(&self) -> &Arc<Backend> {
        &self.member.backend
    }

    /// Returns the pool entry of the backend, as configured.
    pub fn pool_entry(&self) -> &Arc<str> {
        &self.member.config.pool_entry
    }

    /// Connects to the backend and sends a PROXY header if it is configured. The caller sets the deadline.
    pub async fn dial(
        &self,
        resolver: &Resolver,
        addrs: ConnAddrs,
    ) -> Result<DialedStream, DialError> {
        self.member.dial(resolver, Some(addrs)).await
    }

    /// Returns the TLS settings for the connection, if TLS is used.
    pub fn tls(&self) -> Option<&TlsClient> {
        self.member.tls()
    }

    /// Ends the handshake phase: the backend has answered, or no immediate answer is expected.
    pub fn settle(&self) {
        let client = self.handshaking.swap(0, Ordering::Relaxed);
        if let Some(client) = PackedSubnet::from_bits(client) {
            self.member.backend.settle(client);
        }
    }

    /// Records that the backend has answered, whatever the answer was.
    pub fn record_response(&self) {
        self.member.backend.health().record_response();
    }

    /// Records that the backend was not reached, which no client causes.
    pub fn record_failure(&self, error: &(dyn Error + 'static)) {
        self.count_failure(Instant::now(), error, FailureSource::Backend);
    }

    /// Records that the backend was reached, but has not answered the request of `client`, which that request may have
    /// caused. Repeated failures of one client count once.
    pub(crate) fn record_no_response(&self, error: &(dyn Error + 'static), client: SubnetKey) {
        let (now, window) = (Instant::now(), self.member.config.passive.within.0);
        let is_only = !self.backend().has_other_client(client.pack(), now, window);
        self.count_failure(now, error, FailureSource::Client { client, is_only });
    }

    fn count_failure(&self, now: Instant, error: &(dyn Error + 'static), source: FailureSource) {
        let why = ErrorChain(error).to_string();
        let health = self.member.backend.health();
        health.record_failure(now, &self.member.config.passive, why, source);
    }

    /// Returns the `Host` that the backend receives instead of the route's.
    pub fn host(&self) -> Option<&HeaderValue> {
        self.member.config.host.as_ref()
    }

    /// Returns whether a connection may serve several requests (`reuse`).
    pub fn reuses_connections(&self) -> bool {
        self.member.config.reuses_connections
    }

    /// Returns the host and port of a backend whose connections can be pooled for plain HTTP: over TCP, without TLS and
    /// without a PROXY header, unless `reuse` is "off".
    pub fn poolable_addr(&self) -> Option<(&str, u16)> {
        match self.backend().address() {
            BackendAddress::Tcp { host, port, .. }
                if self.member.config.tls.is_none()
                    && self.member.config.proxy_header.is_none()
                    && self.member.config.reuses_connections =>
            {
                Some((host, *port))
            }
            _ => None,
        }
    }
}

impl Drop for Lease {
    fn drop(&mut self) {
        let client = PackedSubnet::from_bits(*self.handshaking.get_mut());
        self.member.backend.release(client);
    }
}
