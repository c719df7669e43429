//! A backend as one configuration has it, and the leases on it.

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

/// A backend's place in a pool: what a reload may change of it while its leases stay.
#[derive(Debug)]
pub(super) struct Member {
    pub(super) backend: Arc<Backend>,
    /// Its share; never 0.
    pub(super) weight: u64,
    /// The part of its share that DNS has said.
    pub(super) share: u16,
    /// How much it may have at a time; of the terms, for every pick reads it.
    limits: LoadLimits,
    /// What a key's hash is joined with; of the address, so that all processes and all configurations agree.
    pub(super) id_hash: u64,
    pub(super) terms: Arc<MemberConfig>,
    /// When its next turn is, in the time of `balance::turns`.
    pub(super) next_slot: AtomicU64,
}

/// A taken place on a backend, from before the dial until the session or the request has ended; given back on drop. Until
/// [`Lease::settle`] it is a place among the handshakes too.
#[derive(Debug)]
pub struct Lease {
    entry: Arc<Member>,
    handshaking: AtomicBool,
}

// === impl Member ===

impl Member {
    pub(super) fn new(
        backend: Arc<Backend>,
        weight: u64,
        share: u16,
        terms: &Arc<MemberConfig>,
    ) -> Self {
        Member {
            id_hash: stable_hash(backend.name().bytes()),
            backend,
            weight,
            share,
            limits: terms.most,
            terms: terms.clone(),
            next_slot: AtomicU64::new(0),
        }
    }

    pub(super) fn leases(&self) -> u64 {
        self.backend.leases()
    }

    /// Whether somebody has a lease there, or has ordered that nobody gets another.
    pub(super) fn is_in_use(&self) -> bool {
        self.leases() > 0 || self.backend.is_draining()
    }

    /// Whether it is well, as far as is known.
    pub(super) fn is_up(&self) -> bool {
        self.backend.health().is_up()
    }

    /// Whether it may be chosen, if it has room; `unwell`: even where it is not up.
    pub(super) fn is_open(&self, unwell: bool) -> bool {
        !self.backend.is_draining() && (unwell || self.is_up())
    }

    /// What it has of its pool's leases, and may have.
    pub(super) fn load(&self) -> MemberLoad {
        MemberLoad {
            leases: self.leases(),
            weight: self.weight,
            most: self.limits.leases(),
        }
    }

    /// Whether it has a place for another lease, and may shake hands now.
    pub(super) fn has_capacity(&self) -> bool {
        self.backend.has_capacity(self.limits)
    }

    /// Connects to it, and tells it whose connection this is if it wants to know: without `ends`, our own. The caller sets
    /// the deadline.
    pub(super) async fn dial(
        &self,
        resolver: &Resolver,
        ends: Option<ConnAddrs>,
    ) -> Result<DialedStream, DialError> {
        let mut connection = dial(resolver, self.backend.address(), &self.terms.sources).await?;
        if let Some(version) = self.terms.proxy_header {
            connection.write_proxy_header(version, ends).await?;
        }
        Ok(connection)
    }

    /// How TLS is spoken on that connection, if it is.
    pub(super) fn tls(&self) -> Option<&TlsClient> {
        self.terms.tls.as_ref()
    }
}

// === impl Lease ===

impl Lease {
    /// `None` where the last place was taken meanwhile.
    pub(super) fn take(entry: &Arc<Member>) -> Option<Self> {
        let taken = entry.backend.take(entry.limits);
        taken.then(|| Lease {
            entry: entry.clone(),
            handshaking: AtomicBool::new(true),
        })
    }

    pub(super) fn seed(&self) -> u64 {
        self.entry.id_hash
    }

    /// The backend it is a place on.
    pub fn backend(&self) -> &Arc<Backend> {
        &self.entry.backend
    }

    /// The entry of the pool that it is a place on, as it was written.
    pub fn written(&self) -> &Arc<str> {
        &self.entry.terms.written
    }

    /// Connects to it, and tells it whose connection this is if it wants to know. The caller sets the deadline.
    pub async fn dial(
        &self,
        resolver: &Resolver,
        ends: ConnAddrs,
    ) -> Result<DialedStream, DialError> {
        self.entry.dial(resolver, Some(ends)).await
    }

    /// How TLS is spoken on that connection, if it is.
    pub fn tls(&self) -> Option<&TlsClient> {
        self.entry.tls()
    }

    /// Somebody else may shake hands now: the backend has answered, or there is nothing that it should do at once.
    pub fn settle(&self) {
        if self.handshaking.swap(false, Ordering::Relaxed) {
            self.entry.backend.settle();
        }
    }

    /// The backend has answered what it was sent, whatever it said.
    pub fn answered(&self) {
        self.entry.backend.health().answered();
    }

    /// The backend was not reached, or has not answered.
    pub fn failed(&self, error: &(dyn Error + 'static)) {
        self.record_failure(error, None);
    }

    /// `client` has left after it had waited for long. However often it does that, it counts once.
    pub fn abandoned(&self, error: &(dyn Error + 'static), client: IpAddr) {
        self.record_failure(error, Some(client));
    }

    fn record_failure(&self, error: &(dyn Error + 'static), left: Option<IpAddr>) {
        let why = ErrorChain(error).to_string();
        let health = self.entry.backend.health();
        health.failed(Instant::now(), &self.entry.terms.passive, why, left);
    }

    /// The host and the port of a backend to which one connection is as good as another for plain HTTP: without TLS,
    /// on TCP, and not told whose it is.
    pub fn poolable_addr(&self) -> Option<(&str, u16)> {
        match self.backend().address() {
            BackendAddress::Tcp { host, port, .. }
                if self.entry.terms.tls.is_none() && self.entry.terms.proxy_header.is_none() =>
            {
                Some((host, *port))
            }
            _ => None,
        }
    }
}

impl Drop for Lease {
    fn drop(&mut self) {
        self.entry.backend.release(*self.handshaking.get_mut());
    }
}
