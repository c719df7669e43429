//! A backend as one configuration describes it, and the leases on it.

use super::{
    Backend, Resolver,
    backend::LoadLimits,
    balance::{MemberLoad, stable_hash},
    connect::{ConnAddrs, DialError, DialedStream, dial},
    terms::MemberConfig,
    tls::TlsClient,
};
use crate::{config::BackendAddress, observe::ErrorChain};
use std::{
    error::Error,
    net::IpAddr,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
};
use tokio::time::Instant;

/// A member of a pool: a backend with the settings that a reload may change while its leases stay.
#[derive(Debug)]
pub(super) struct Member {
    pub(super) backend: Arc<Backend>,
    /// Its weight; never 0.
    pub(super) weight: u64,
    /// The factor of its weight that comes from DNS (SRV).
    pub(super) share: u16,
    /// Its limits; copied from the configuration because every pick reads them.
    limits: LoadLimits,
    /// The number that a key's hash is combined with; derived from the address, so that all processes and
    /// configurations agree.
    pub(super) id_hash: u64,
    pub(super) config: Arc<MemberConfig>,
    /// The time of its next slot, in the virtual time of `StrideScheduler`.
    pub(super) next_slot: AtomicU64,
}

/// One unit of a backend's capacity. Held from before the dial until the request or session ends; released on drop.
/// Until [`Lease::settle`] it also counts as a handshake.
#[derive(Debug)]
pub struct Lease {
    member: Arc<Member>,
    handshaking: AtomicBool,
}

// === impl Member ===

impl Member {
    pub(super) fn new(
        backend: Arc<Backend>,
        weight: u64,
        share: u16,
        config: &Arc<MemberConfig>,
    ) -> Self {
        Member {
            id_hash: stable_hash(backend.name().bytes()),
            backend,
            weight,
            share,
            limits: config.limits,
            config: config.clone(),
            next_slot: AtomicU64::new(0),
        }
    }

    pub(super) fn leases(&self) -> u64 {
        self.backend.leases()
    }

    /// Returns whether leases are held on the backend, or the operator has ordered a drain.
    pub(super) fn is_in_use(&self) -> bool {
        self.leases() > 0 || self.backend.is_draining()
    }

    /// Returns whether the backend is healthy, as far as is known.
    pub(super) fn is_up(&self) -> bool {
        self.backend.health().is_up()
    }

    /// Returns whether it is eligible, apart from its capacity; `include_unhealthy`: also if it is down or ejected.
    pub(super) fn is_open(&self, include_unhealthy: bool) -> bool {
        !self.backend.is_draining() && (include_unhealthy || self.is_up())
    }

    /// Returns its share of the pool's leases and its limit.
    pub(super) fn load(&self) -> MemberLoad {
        MemberLoad {
            leases: self.leases(),
            weight: self.weight,
            max_leases: self.limits.leases(),
        }
    }

    /// Returns whether it has capacity for another lease and another handshake.
    pub(super) fn has_capacity(&self) -> bool {
        self.backend.has_capacity(self.limits)
    }

    /// Connects to the backend and sends a PROXY header if it is configured: with the client's addresses, or `LOCAL`
    /// without `addrs`. The caller sets the deadline.
    pub(super) async fn dial(
        &self,
        resolver: &Resolver,
        addrs: Option<ConnAddrs>,
    ) -> Result<DialedStream, DialError> {
        let mut connection = dial(resolver, self.backend.address(), &self.config.sources).await?;
        if let Some(version) = self.config.proxy_header {
            connection.write_proxy_header(version, addrs).await?;
        }
        Ok(connection)
    }

    /// Returns the TLS settings for the connection, if TLS is used.
    pub(super) fn tls(&self) -> Option<&TlsClient> {
        self.config.tls.as_ref()
    }
}

// === impl Lease ===

impl Lease {
    /// Acquires a lease; `None` if no capacity is left.
    pub(super) fn acquire(member: &Arc<Member>) -> Option<Self> {
        let acquired = member.backend.try_acquire(member.limits);
        acquired.then(|| Lease {
            member: member.clone(),
            handshaking: AtomicBool::new(true),
        })
    }

    pub(super) fn id_hash(&self) -> u64 {
        self.member.id_hash
    }

    /// Returns the backend.
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
    pub fn abandoned(&self, error: &(dyn Error + 'static), client: IpAddr) {
        self.record_failure(error, Some(client));
    }

    fn record_failure(&self, error: &(dyn Error + 'static), client: Option<IpAddr>) {
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
