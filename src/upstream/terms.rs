//! The configuration of a backend, or of all backends under a DNS name.

use super::{Backends, SourceAddrs, backend::LoadLimits, entry::Member, tls::TlsClient};
use crate::{
    config::{
        self, BackendAddress, BackendProxyProtocol, BackendSource, Diagnostic, DnsName, OnVanish,
    },
    proto::proxy,
};
use std::{sync::Arc, time::Duration};

/// One entry of a pool as configured, shared by all members that come from it.
#[derive(Debug)]
pub(super) struct MemberConfig {
    /// The entry as written. Its sessions belong to it, also after their address has left DNS.
    pub(super) pool_entry: Arc<str>,
    source: BackendSource,
    weight: u64,
    /// The limits of each backend.
    pub(super) limits: LoadLimits,
    /// When failures eject a backend.
    pub(super) passive: config::Passive,
    pub(super) tls: Option<TlsClient>,
    /// Whether a PROXY header is sent, and in which version.
    pub(super) proxy_header: Option<proxy::ProxyVersion>,
    pub(super) sources: SourceAddrs,
    resolve: Duration,
    on_vanish: OnVanish,
}

// === impl MemberConfig ===

impl MemberConfig {
    pub(super) fn new(
        backend: &config::Located<config::Backend>,
        pool: &config::Pool,
        diagnostics: &mut Vec<Diagnostic>,
    ) -> Self {
        MemberConfig {
            pool_entry: backend.address.to_string().into(),
            source: backend.address.clone(),
            weight: u64::from(backend.weight.max(1)),
            limits: LoadLimits::new(backend.max_sessions, pool.admission.handshakes),
            passive: pool.passive,
            tls: TlsClient::build(backend, diagnostics),
            proxy_header: match backend.proxy_protocol {
                BackendProxyProtocol::Off => None,
                BackendProxyProtocol::V1 => Some(proxy::ProxyVersion::V1),
                BackendProxyProtocol::V2 => Some(proxy::ProxyVersion::V2),
            },
            sources: SourceAddrs::new(&backend.sources),
            resolve: backend.resolve.0,
            on_vanish: backend.on_vanish,
        }
    }

    /// Creates the member of an entry that is an address; `None` for a DNS name.
    pub(super) fn static_member(self: &Arc<Self>, backends: &mut Backends) -> Option<Arc<Member>> {
        match &self.source {
            BackendSource::One(address) => Some(self.member(address, 1, backends)),
            BackendSource::Dns(_) => None,
        }
    }

    /// Creates a member with this configuration; `share`: the factor of the weight that comes from DNS.
    pub(super) fn member(
        self: &Arc<Self>,
        address: &BackendAddress,
        share: u16,
        backends: &mut Backends,
    ) -> Arc<Member> {
        let weight = self.weight * u64::from(share.max(1));
        Arc::new(Member::new(
            backends.get_or_create(address),
            weight,
            share,
            self,
        ))
    }

    /// Returns the name to resolve, and how often.
    pub(super) fn dns(&self) -> Option<(&DnsName, Duration)> {
        self.source.dns().map(|name| (name, self.resolve))
    }

    /// Returns whether a session may stay after its address has left DNS.
    pub(super) fn keeps_vanished_sessions(&self) -> bool {
        self.source.dns().is_some() && self.on_vanish == OnVanish::Keep
    }
}
