//! DNS lookups for pools: all records under a name, without a cache, with their lifetime.

use crate::net::resolver::{
    QueryError, ResolveError, Resolver,
    search::{HostAnswer, IpVersion, search},
};
use futures_util::future::join_all;
use hickory_proto::rr::{Name, RData, RecordType};
use std::{
    collections::{BTreeMap, BTreeSet},
    net::IpAddr,
    time::Duration,
};

/// The kind of records to query, and their name.
#[derive(Debug, Clone, Copy)]
pub(crate) enum DnsQuery<'a> {
    /// Each address (A, AAAA) of a name, with one port.
    Addresses {
        /// The host name.
        name: &'a str,
        /// The port of every address.
        port: u16,
    },
    /// Each service (SRV, RFC 2782), with its port and its weight.
    Services {
        /// The name, with its service and protocol.
        name: &'a str,
    },
}

/// A DNS answer; sorted, because servers rotate their answers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DnsAnswer {
    /// The backends found, without duplicates.
    pub endpoints: Vec<Endpoint>,
    /// Whether every query was answered, so that a backend that is missing here does not exist.
    pub complete: bool,
    /// The IP version that alone was not answered, so that only backends of that version may be missing here.
    pub silent: Option<IpVersion>,
    /// Number of backends beyond the limit, which are left out.
    pub truncated: usize,
    /// How long the answer is valid; `None`: unknown.
    pub ttl: Option<Duration>,
}

/// A backend in DNS.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Endpoint {
    /// The IP address; IPv6 without brackets.
    pub host: Box<str>,
    /// The TCP port, from the query or the SRV record.
    pub port: u16,
    /// Its weight relative to the others; 1 unless an SRV record gives one.
    pub share: u16,
}

/// The addresses of one host.
struct Addresses {
    ips: Vec<IpAddr>,
    complete: bool,
    silent: Option<IpVersion>,
    ttl: Option<Duration>,
}

// === impl Resolver ===

impl Resolver {
    /// Returns the backends under a name, at least one. Of SRV records, only those of the first priority count (RFC
    /// 2782). Once addresses of one family are known, those of the other one are waited for up to `delay`. The caller
    /// sets the deadline.
    pub(crate) async fn discover(
        &self,
        query: DnsQuery<'_>,
        delay: Duration,
    ) -> Result<DnsAnswer, ResolveError> {
        match query {
            DnsQuery::Addresses { name, port } => {
                let found = self.addresses(name, delay).await?;
                let endpoints = found.ips.iter().map(|ip| Endpoint::new(*ip, port, 1));
                Ok(DnsAnswer {
                    silent: found.silent,
                    ..DnsAnswer::new(endpoints.collect(), found.complete, found.ttl)
                })
            }
            DnsQuery::Services { name } => self.services(name, delay).await,
        }
    }

    async fn services(&self, name: &str, delay: Duration) -> Result<DnsAnswer, ResolveError> {
        let unknown = |error| self.unknown(error);
        let client = self.client();
        let query = async |name| client.records(&name, RecordType::SRV).await;
        let found = search(client.conf(), name, query).await.map_err(unknown)?;
        let mut ttl = Some(found.ttl);
        let services = found.data.iter().filter_map(|record| match record {
            // A target of "." means that the service does not exist here; and port 0 has no listener.
            RData::SRV(service) if !service.target.is_root() && service.port > 0 => Some(service),
            _ => None,
        });
        let first = services.clone().map(|service| service.priority).min();
        let services = services.filter(|service| Some(service.priority) == first);
        let mut services: Vec<_> = services.collect();
        // Sorted, so that truncation keeps the same services in every answer.
        services.sort_unstable_by_key(|service| (&service.target, service.port));
        let truncated = services.len().saturating_sub(MAX_ENDPOINTS);
        services.truncate(MAX_ENDPOINTS);
        let max_weight = services.iter().map(|service| service.weight).max();
        // Several services may share a host; all queries at once would be too many for a server to answer in time.
        let hosts: BTreeSet<_> = services.iter().map(|service| &service.target).collect();
        let hosts: Vec<_> = hosts.into_iter().collect();
        let (mut known, mut complete, mut why) = (BTreeMap::new(), !found.is_partial, None);
        for some in hosts.chunks(MAX_CONCURRENT_LOOKUPS) {
            let lookups = some
                .iter()
                .map(async |host| (*host, self.addresses_of_target(host, delay).await));
            for (host, found) in join_all(lookups).await {
                match found {
                    Ok(found) => {
                        complete &= found.complete;
                        ttl = [ttl, found.ttl].into_iter().flatten().min();
                        known.insert(host, found.ips);
                    }
                    // A host may still exist unless a server reports that it does not.
                    Err(error) => {
                        complete &= matches!(&error, ResolveError::Unknown { reason, .. } if reason.is_negative());
                        why = Some(error);
                    }
                }
            }
        }
        let all = services.iter().flat_map(|service| {
            let share = share(service.weight, max_weight);
            let ips = known.get(&service.target).into_iter().flatten();
            ips.map(move |ip| Endpoint::new(*ip, service.port, share))
        });
        let all: Vec<_> = all.collect();
        match (all.is_empty(), why) {
            (true, Some(error)) => Err(error),
            (true, None) => Err(unknown(QueryError::Empty("the answer has no service"))),
            (false, _) => {
                let mut found = DnsAnswer::new(all, complete, ttl);
                found.truncated += truncated;
                Ok(found)
            }
        }
    }

    /// Returns the addresses of a host that an SRV record names: an absolute name, which the hosts file has without the
    /// dot at its end.
    async fn addresses_of_target(
        &self,
        target: &Name,
        delay: Duration,
    ) -> Result<Addresses, ResolveError> {
        let name = target.to_utf8();
        match self.listed(name.trim_end_matches('.')) {
            Some(ips) => Ok(Addresses::listed(ips)),
            None => self.addresses(&name, delay).await,
        }
    }

    /// Returns the addresses of a host, at least one; those of one family if the query for the other has failed.
    async fn addresses(&self, name: &str, delay: Duration) -> Result<Addresses, ResolveError> {
        if let Some(ips) = self.listed(name) {
            return Ok(Addresses::listed(ips));
        }
        let answer = HostAnswer::query(&self.client(), name, delay).await;
        let answer = answer.map_err(|error| self.unknown(error))?;
        Ok(Addresses {
            ips: answer.ips(),
            complete: answer.is_complete(),
            silent: answer.silent(),
            ttl: Some(answer.ttl()),
        })
    }
}

// === impl Addresses ===

impl Addresses {
    /// Creates the addresses of a host that needs no query.
    fn listed(ips: Vec<IpAddr>) -> Self {
        Addresses {
            ips,
            complete: true,
            silent: None,
            ttl: None,
        }
    }
}

// === impl DnsAnswer ===

impl DnsAnswer {
    fn new(mut endpoints: Vec<Endpoint>, complete: bool, ttl: Option<Duration>) -> Self {
        endpoints.sort_unstable();
        endpoints.dedup_by(|one, other| (&one.host, one.port) == (&other.host, other.port));
        let truncated = endpoints.len().saturating_sub(MAX_ENDPOINTS);
        endpoints.truncate(MAX_ENDPOINTS);
        DnsAnswer {
            endpoints,
            complete,
            silent: None,
            truncated,
            ttl,
        }
    }

    /// Returns whether a backend at this address may exist although it is missing here.
    pub(crate) fn may_lack(&self, host: &str) -> bool {
        match (self.complete, self.silent, host.parse::<IpAddr>()) {
            (false, Some(IpVersion::V4), Ok(ip)) => ip.is_ipv4(),
            (false, Some(IpVersion::V6), Ok(ip)) => ip.is_ipv6(),
            (complete, ..) => !complete,
        }
    }
}

// === impl Endpoint ===

impl Endpoint {
    fn new(ip: IpAddr, port: u16, share: u16) -> Self {
        Endpoint {
            host: ip.to_canonical().to_string().into(),
            port,
            share,
        }
    }
}

/// Limits weights to 100, because the stride scheduler divides by them. A weight of 0 is "a very small proportion" (RFC
/// 2782).
fn share(weight: u16, max_weight: Option<u16>) -> u16 {
    match max_weight {
        Some(max_weight) if max_weight > 100 => {
            (u32::from(weight) * 100 / u32::from(max_weight)).max(1) as u16
        }
        _ => weight.max(1),
    }
}

/// Maximum number of hosts that are resolved at a time.
const MAX_CONCURRENT_LOOKUPS: usize = 16;

/// Maximum number of backends per DNS answer; the others are left out.
pub(crate) const MAX_ENDPOINTS: usize = 256;
