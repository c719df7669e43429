//! A lease on a backend: what a request or session holds, and what it reports about the backend.

use crate::{
    config::BackendAddress,
    net::{
        dial::ConnAddrs,
        subnet::{PackedSubnet, SubnetKey},
    },
    observe::logging::ErrorChain,
    upstream::{
        backend::Backend,
        connect::{BackendDialer, ConnectLimits},
        health::state::FailureSource,
        member::Member,
    },
};
use http::HeaderValue;
use std::{
    error::Error,
    net::IpAddr,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
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

/// What pooled connections have in common: any of them may serve a request whose lease has this key.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct ReuseKey {
    host: Box<str>,
    port: u16,
    /// The `sources` of the pool entry, because another pool may connect to the same address from others.
    sources: Arc<[IpAddr]>,
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

    /// Returns the time limit of each address of the backend, as configured.
    pub(crate) fn connect_timeout(&self) -> Duration {
        self.member.config.connect_timeout
    }

    /// Returns what connects to the backend on behalf of the client with these addresses.
    pub(crate) fn dialer(&self, addrs: ConnAddrs, limits: ConnectLimits) -> BackendDialer {
        BackendDialer::new(self.member.clone(), addrs, limits)
    }

    /// Ends the handshake phase: the backend has answered, or no immediate answer is expected.
    pub fn settle(&self) {
        let client = self.handshaking.swap(0, Ordering::Relaxed);
        if let Some(client) = PackedSubnet::from_bits(client) {
            self.member.backend.settle(client);
        }
    }

    /// Records that the backend has answered a handshake, with success or with a refusal that concerns the client.
    pub fn record_response(&self) {
        self.member.backend.health().record_response();
    }

    /// Records that the backend has answered a plain request, whatever the answer was.
    pub(crate) fn record_plain_response(&self) {
        self.member.backend.health().record_plain_response();
    }

    /// Records that the backend was reached, but has not answered the handshake of `client` or has answered that it
    /// cannot serve it, which that request may have caused. Repeated failures of one client count once.
    pub(crate) fn record_handshake_failure(
        &self,
        error: &(dyn Error + 'static),
        client: SubnetKey,
    ) {
        let (now, window) = (Instant::now(), self.member.config.passive.within.0);
        let is_only = !self.backend().has_other_client(client.pack(), window);
        let (why, source) = (
            ErrorChain(error).to_string(),
            FailureSource::Client { client, is_only },
        );
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

    /// Returns the key of the backend's pooled connections for plain HTTP; `None` if they cannot be pooled: they can
    /// over TCP, without TLS and without a PROXY header, unless `reuse` is "off".
    pub fn reuse_key(&self) -> Option<ReuseKey> {
        match self.backend().address() {
            BackendAddress::Tcp { host, port, .. }
                if self.member.config.tls.is_none()
                    && self.member.config.proxy_header.is_none()
                    && self.member.config.reuses_connections =>
            {
                Some(ReuseKey {
                    host: (**host).into(),
                    port: *port,
                    sources: self.member.config.sources.addresses().clone(),
                })
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
