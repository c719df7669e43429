//! A lease on a backend: what a request or session holds, and what it reports about the backend.

use crate::{
    config::BackendAddress,
    net::{
        dial::{ConnAddrs, DialError, DialedStream},
        resolver::Resolver,
        subnet::SubnetKey,
        tls_client::TlsClient,
    },
    observe::logging::ErrorChain,
    upstream::{backend::Backend, member::Member},
};
use std::{
    error::Error,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
};
use tokio::time::Instant;

/// One unit of a backend's capacity. Held from before the dial until the request or session ends; released on drop.
/// Until [`Lease::settle`] it also counts as a handshake.
#[derive(Debug)]
pub struct Lease {
    member: Arc<Member>,
    handshaking: AtomicBool,
}

// === impl Lease ===

impl Lease {
    /// Acquires a lease; `None` if no capacity is left.
    pub(crate) fn acquire(member: &Arc<Member>) -> Option<Self> {
        member.try_acquire().then(|| Lease {
            member: member.clone(),
            handshaking: AtomicBool::new(true),
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
        if self.handshaking.swap(false, Ordering::Relaxed) {
            self.member.backend.settle();
        }
    }

    /// Records that the backend has answered, whatever the answer was.
    pub fn answered(&self) {
        self.member.backend.health().answered();
    }

    /// Records that the backend was not reached or has not answered.
    pub fn failed(&self, error: &(dyn Error + 'static)) {
        self.record_failure(error, None);
    }

    /// Records that `client` has disconnected after a long wait. Repeated disconnects of one client count once.
    pub(crate) fn abandoned(&self, error: &(dyn Error + 'static), client: SubnetKey) {
        self.record_failure(error, Some(client));
    }

    fn record_failure(&self, error: &(dyn Error + 'static), client: Option<SubnetKey>) {
        let why = ErrorChain(error).to_string();
        let health = self.member.backend.health();
        health.failed(Instant::now(), &self.member.config.passive, why, client);
    }

    /// Returns the host and port of a backend whose connections can be pooled for plain HTTP: over TCP, without TLS and
    /// without a PROXY header.
    pub fn poolable_addr(&self) -> Option<(&str, u16)> {
        match self.backend().address() {
            BackendAddress::Tcp { host, port, .. }
                if self.member.config.tls.is_none()
                    && self.member.config.proxy_header.is_none() =>
            {
                Some((host, *port))
            }
            _ => None,
        }
    }
}

impl Drop for Lease {
    fn drop(&mut self) {
        self.member.backend.release(*self.handshaking.get_mut());
    }
}
