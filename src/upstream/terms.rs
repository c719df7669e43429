//! The configuration of a backend, or of all backends under a DNS name.

use super::{Backends, SourceAddrs, backend::LoadLimits, entry::Member, tls::TlsClient};
use crate::{
    config::{
        self, BackendAddress, BackendProxyProtocol, BackendSource, Diagnostic, DnsName, OnVanish,
    },
    proto::proxy,
};
use std::{sync::Arc, time::Duration};

/// One entry of a pool as configured; all members that come from it share it.
#[derive(Debug)]
pub(super) struct MemberConfig {
    /// The entry as written; its sessions belong to it, also after their address has left DNS.
    pub(super) written: Arc<str>,
    source: BackendSource,
    weight: u64,
    /// The limits of each backend.
    pub(super) most: LoadLimits,
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
        written: &config::Located<config::Backend>,
        pool: &config::Pool,
        problems: &mut Vec<Diagnostic>,
    ) -> Self {
        MemberConfig {
            written: written.address.to_string().into(),
            source: written.address.clone(),
            weight: u64::from(written.weight.max(1)),
            most: LoadLimits::new(written.max_sessions, pool.admission.handshakes),
            passive: pool.passive,
            tls: TlsClient::build(written, problems),
            proxy_header: match written.proxy_protocol {
                BackendProxyProtocol::Off => None,
                BackendProxyProtocol::V1 => Some(proxy::ProxyVersion::V1),
                BackendProxyProtocol::V2 => Some(proxy::ProxyVersion::V2),
            },
            sources: SourceAddrs::new(&written.sources),
            resolve: written.resolve.0,
            on_vanish: written.on_vanish,
        }
    }

    /// Returns the address, if the entry has one.
    pub(super) fn only(self: &Arc<Self>, backends: &mut Backends) -> Option<Arc<Member>> {
        match &self.source {
            BackendSource::One(address) => Some(self.entry(address, 1, backends)),
            BackendSource::Dns(_) => None,
        }
    }

    /// Creates a member with this configuration; `share`: the part of the weight that comes from DNS.
    pub(super) fn entry(
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
