//! A backend as one configuration describes it.

use crate::{
    config::{
        self, BackendAddress, BackendProxyProtocol, BackendSource, Diagnostic, DnsName, HostField,
        OnVanish, Reuse,
    },
    net::{
        dial::{ConnAddrs, DialAddress, DialError, DialOptions, DialedStream, SourceAddrs, dial},
        happy_eyeballs::{AddressHistory, AttemptPermits},
        resolver::Resolver,
        subnet::PackedSubnet,
        tls_client::{BadTlsClient, TlsClient, TlsClientFiles},
    },
    observe::logging::ErrorChain,
    proto::proxy_header,
    upstream::{
        backend::{Backend, Backends, LoadLimits},
        balance_key::stable_hash,
        fair_share::MemberLoad,
        health::state::{FailureSource, HealthTier},
    },
};
use http::HeaderValue;
use std::{
    sync::{Arc, atomic::AtomicU64},
    time::Duration,
};
use tokio::time::Instant;

/// A member of a pool: a backend with the settings that a reload may change while its leases stay.
#[derive(Debug)]
pub(crate) struct Member {
    pub(crate) backend: Arc<Backend>,
    /// Its weight; never 0.
    pub(crate) weight: u64,
    /// The factor of its weight that comes from DNS (SRV); not the share of sessions that `fair_share` computes.
    pub(crate) share: u16,
    /// Its limits; copied from the configuration because every pick reads them.
    limits: LoadLimits,
    /// The number that a key's hash is combined with; derived from the address, so that all processes and
    /// configurations agree.
    pub(crate) id_hash: u64,
    pub(crate) config: Arc<MemberConfig>,
    /// The time of its next slot, in the virtual time of `StrideScheduler`.
    pub(crate) next_slot: AtomicU64,
}

/// One entry of a pool as configured, an address or a DNS name, shared by all members that come from it.
#[derive(Debug)]
pub(crate) struct MemberConfig {
    /// The entry as written. Its sessions belong to it, also after their address has left DNS.
    pub(crate) pool_entry: Arc<str>,
    source: BackendSource,
    weight: u64,
    /// The limits of each backend.
    pub(crate) limits: LoadLimits,
    /// When failures eject a backend.
    pub(crate) passive: config::Passive,
    pub(crate) tls: Option<TlsClient>,
    /// Whether a PROXY header is sent, and in which version.
    pub(crate) proxy_header: Option<proxy_header::ProxyVersion>,
    pub(crate) sources: SourceAddrs,
    /// The time limit of a connect to each address.
    pub(crate) connect_timeout: Duration,
    /// The addresses of its name that did not answer a short time ago.
    history: AddressHistory,
    /// Whether its connections may serve several plain requests.
    pub(crate) reuses_connections: bool,
    /// The `Host` that it receives; `None`: that of the route.
    pub(crate) host: Option<HeaderValue>,
    resolve: Duration,
    on_vanish: OnVanish,
}

// === impl Member ===

impl Member {
    pub(crate) fn new(
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

    pub(crate) fn leases(&self) -> u64 {
        self.backend.leases()
    }

    /// Returns whether leases are held on the backend, or the operator has ordered a drain.
    pub(crate) fn is_in_use(&self) -> bool {
        self.leases() > 0 || self.backend.is_draining()
    }

    /// Returns whether the backend is healthy, as far as is known.
    pub(crate) fn is_up(&self) -> bool {
        self.backend.health().is_up()
    }

    /// Returns whether it is eligible, apart from its capacity, if the members of `tier` and above are.
    pub(crate) fn is_open(&self, tier: HealthTier) -> bool {
        !self.backend.is_draining() && self.backend.health().tier() >= tier
    }

    /// Returns whether it has capacity for another lease, regardless of the handshakes in progress.
    pub(crate) fn has_lease_capacity(&self) -> bool {
        self.leases() < self.limits.leases()
    }

    /// Returns its leases, its weight and its limit, from which `fair_share` computes its share of the sessions.
    pub(crate) fn load(&self) -> MemberLoad {
        MemberLoad {
            leases: self.leases(),
            weight: self.weight,
            max_leases: self.limits.leases(),
        }
    }

    /// Returns its limits.
    pub(crate) fn limits(&self) -> LoadLimits {
        self.limits
    }

    /// Returns whether it has capacity for another lease and another handshake.
    pub(crate) fn has_capacity(&self) -> bool {
        self.backend.has_capacity(self.limits)
    }

    /// Returns whether it has capacity for another lease and another handshake of `client`.
    pub(crate) fn has_capacity_for(&self, client: PackedSubnet) -> bool {
        self.backend.has_capacity_for(self.limits, client)
    }

    /// Counts one more lease of `client` on the backend, unless a limit is reached.
    pub(crate) fn try_acquire(&self, client: PackedSubnet) -> bool {
        self.backend.try_acquire(self.limits, client)
    }

    /// Connects to the backend, with `connect_timeout` for each address, and sends a PROXY header if it is configured:
    /// with the client's addresses, or `LOCAL` without `addrs`. The caller limits the whole time.
    pub(crate) async fn dial(
        &self,
        resolver: &Resolver,
        permits: AttemptPermits<'_>,
        connect_timeout: Duration,
        addrs: Option<ConnAddrs>,
    ) -> Result<DialedStream, DialError> {
        let address = DialAddress::from(self.backend.address());
        let options = DialOptions {
            resolver,
            sources: &self.config.sources,
            history: &self.config.history,
            permits,
            connect_timeout,
        };
        let dialled = dial(address, options).await;
        if let (
            Err(DialError::Connect { .. } | DialError::Timeout { .. }),
            DialAddress::Tcp { host, .. },
        ) = (&dialled, address)
        {
            resolver.expire(host);
        }
        let mut connection = dialled?;
        if let Some(version) = self.config.proxy_header {
            connection.write_proxy_header(version, addrs).await?;
        }
        Ok(connection)
    }

    /// Records that the backend was not reached, which no client causes. `timed_out`: nothing answered in time.
    pub(crate) fn record_connect_failure(&self, why: String, timed_out: bool) {
        let (now, passive) = (Instant::now(), &self.config.passive);
        let source = FailureSource::Connect { timed_out };
        let health = self.backend.health();
        health.record_failure(now, passive, why, source);
    }

    /// Returns the TLS settings for the connection, if TLS is used.
    pub(crate) fn tls(&self) -> Option<&TlsClient> {
        self.config.tls.as_ref()
    }
}

// === impl MemberConfig ===

impl MemberConfig {
    pub(crate) fn new(
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
            tls: tls_client(backend, diagnostics),
            proxy_header: proxy_version(backend.proxy_protocol),
            sources: SourceAddrs::new(&backend.sources),
            connect_timeout: pool.connect_timeout.0,
            history: AddressHistory::default(),
            reuses_connections: backend.reuse == Reuse::On,
            host: backend.host.as_ref().and_then(host_value),
            resolve: backend.resolve.0,
            on_vanish: backend.on_vanish,
        }
    }

    /// Creates the member of an entry that is an address; `None` for a DNS name.
    pub(crate) fn static_member(self: &Arc<Self>, backends: &mut Backends) -> Option<Arc<Member>> {
        match &self.source {
            BackendSource::One(address) => Some(self.member(address, 1, backends)),
            BackendSource::Dns(_) => None,
        }
    }

    /// Creates a member with this configuration; `share`: the factor of the weight that comes from DNS.
    pub(crate) fn member(
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
    pub(crate) fn dns(&self) -> Option<(&DnsName, Duration)> {
        self.source.dns().map(|name| (name, self.resolve))
    }

    /// Returns whether a session may stay after its address has left DNS.
    pub(crate) fn keeps_vanished_sessions(&self) -> bool {
        self.source.dns().is_some() && self.on_vanish == OnVanish::Keep
    }
}

/// Returns the least tier that is eligible among `serving` members. Those that answer connects are preferred if one of
/// them `can_serve`.
pub(crate) fn eligible_tier<'a>(
    serving: impl Iterator<Item = &'a Member> + Clone,
    try_down: bool,
    can_serve: impl Fn(&Member) -> bool,
) -> HealthTier {
    let is_up = |member: &Member| member.backend.health().tier() == HealthTier::UP;
    if serving
        .clone()
        .any(|member| is_up(member) && can_serve(member))
    {
        return HealthTier::UP;
    }
    if !try_down || serving.clone().any(Member::is_up) {
        return HealthTier::SILENT;
    }
    let mut answering = serving.filter(|member| !member.backend.health().tier().is_silent());
    if answering.any(can_serve) {
        HealthTier::UNHEALTHY
    } else {
        HealthTier::UNHEALTHY_AND_SILENT
    }
}

/// Reads the files that `backend` names; `None` without TLS, or after an error.
fn tls_client(
    backend: &config::Located<config::Backend>,
    diagnostics: &mut Vec<Diagnostic>,
) -> Option<TlsClient> {
    let client = tls_client_for(backend)?;
    client
        .map_err(|error| {
            diagnostics.push(Diagnostic {
                at: backend.at,
                message: ErrorChain(&error).to_string(),
                hint: Some(TLS_HINT.into()),
            });
        })
        .ok()
}

/// Returns the field; it is always valid, because an authority is visible ASCII.
pub(crate) fn host_value(host: &HostField) -> Option<HeaderValue> {
    HeaderValue::from_str(host.as_str()).ok()
}

/// Returns the version of the PROXY header; `None`: none is sent.
pub(crate) fn proxy_version(protocol: BackendProxyProtocol) -> Option<proxy_header::ProxyVersion> {
    match protocol {
        BackendProxyProtocol::Off => None,
        BackendProxyProtocol::V1 => Some(proxy_header::ProxyVersion::V1),
        BackendProxyProtocol::V2 => Some(proxy_header::ProxyVersion::V2),
    }
}

/// Builds the TLS settings for the address of `backend`; `None` without TLS.
pub(crate) fn tls_client_for(backend: &config::Backend) -> Option<Result<TlsClient, BadTlsClient>> {
    let BackendSource::One(BackendAddress::Tcp { host, .. }) = &backend.address else {
        return None;
    };
    let tls = &backend.tls;
    backend.address.has_tls().then(|| {
        TlsClient::build(TlsClientFiles {
            server_name: tls.server_name.as_deref().unwrap_or(host),
            ca: tls.ca.as_deref(),
            client_cert: tls.cert.as_deref().zip(tls.key.as_deref()),
        })
    })
}

impl<'a> From<&'a BackendAddress> for DialAddress<'a> {
    fn from(address: &'a BackendAddress) -> Self {
        match address {
            BackendAddress::Tcp { host, port, .. } => DialAddress::Tcp { host, port: *port },
            BackendAddress::Unix(path) => DialAddress::Unix(path),
        }
    }
}

const TLS_HINT: &str = "the files are PEM: ca with the certificates of CAs, cert with a certificate and its chain, key with \
    its private key, without a password; a relative path is relative to the directory of the configuration file";
