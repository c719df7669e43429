//! DNS lookups for pools: all records under a name, without a cache, with their lifetime.

use crate::net::resolver::{ResolveError, Resolver, is_localhost};
use futures_util::future::{join, join_all};
use hickory_resolver::{
    net::{DnsError, NetError},
    proto::{
        op::ResponseCode,
        rr::{Name, RData, RecordType},
    },
};
use std::{
    collections::{BTreeMap, BTreeSet},
    net::{IpAddr, Ipv4Addr, Ipv6Addr},
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
    ttl: Option<Duration>,
}

// === impl Resolver ===

impl Resolver {
    /// Returns the backends under a name, at least one. Of SRV records, only those of the first priority count (RFC
    /// 2782). The caller sets the deadline.
    pub(crate) async fn discover(&self, query: DnsQuery<'_>) -> Result<DnsAnswer, ResolveError> {
        match query {
            DnsQuery::Addresses { name, port } => {
                let found = self.addresses(name).await?;
                let endpoints = found.ips.iter().map(|ip| Endpoint::new(*ip, port, 1));
                Ok(DnsAnswer::new(
                    endpoints.collect(),
                    found.complete,
                    found.ttl,
                ))
            }
            DnsQuery::Services { name } => self.services(name).await,
        }
    }

    async fn services(&self, name: &str) -> Result<DnsAnswer, ResolveError> {
        let unknown = |source| self.unknown(source);
        let name = Name::from_str_relaxed(name).map_err(|error| unknown(error.into()))?;
        let files = self.0.files();
        let servers = self.servers(&files)?;
        let found = servers.pools.lookup(name, RecordType::SRV).await;
        let found = found.map_err(unknown)?;
        let mut ttl = min_ttl(found.answers().iter().map(|record| record.ttl));
        let services = found
            .answers()
            .iter()
            .filter_map(|record| match &record.data {
                // A target of "." means that the service does not exist here; and port 0 has no listener.
                RData::SRV(service) if !service.target.is_root() && service.port > 0 => {
                    Some(service)
                }
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
        let (mut known, mut complete, mut why) = (BTreeMap::new(), true, None);
        for some in hosts.chunks(MAX_CONCURRENT_LOOKUPS) {
            let lookups = some
                .iter()
                .map(async |host| (*host, self.addresses(&host.to_utf8()).await));
            for (host, found) in join_all(lookups).await {
                match found {
                    Ok(found) => {
                        complete &= found.complete;
                        ttl = [ttl, found.ttl].into_iter().flatten().min();
                        known.insert(host, found.ips);
                    }
                    // A host may still exist unless a server reports that it does not.
                    Err(error) => {
                        complete &= matches!(&error, ResolveError::Unknown { reason, .. } if is_negative(reason));
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
            (true, None) => Err(unknown(NetError::Message("the answer has no service"))),
            (false, _) => {
                let mut found = DnsAnswer::new(all, complete, ttl);
                found.truncated += truncated;
                Ok(found)
            }
        }
    }

    /// Returns the addresses of a host, at least one; those of one family if the query for the other has failed.
    async fn addresses(&self, name: &str) -> Result<Addresses, ResolveError> {
        let listed = |ips| Addresses {
            ips,
            complete: true,
            ttl: None,
        };
        if is_localhost(name) {
            return Ok(listed(vec![
                Ipv4Addr::LOCALHOST.into(),
                Ipv6Addr::LOCALHOST.into(),
            ]));
        }
        let unknown = |source| self.unknown(source);
        let name = Name::from_str_relaxed(name).map_err(|error| unknown(error.into()))?;
        let files = self.0.files();
        let ips = files.lookup_hosts_file(&name);
        if !ips.is_empty() {
            return Ok(listed(ips));
        }
        let servers = &self.servers(&files)?.pools;
        let (v4, v6) = join(
            servers.lookup(name.clone(), RecordType::A),
            servers.lookup(name, RecordType::AAAA),
        )
        .await;
        let (mut ips, mut ttl, mut complete, mut why) = (Vec::new(), None, true, None);
        for answer in [v4, v6] {
            match answer {
                Ok(found) => {
                    let records = found.answers();
                    ips.extend(records.iter().filter_map(|record| record.data.ip_addr()));
                    let record_ttl = min_ttl(records.iter().map(|record| record.ttl));
                    ttl = [ttl, record_ttl].into_iter().flatten().min();
                }
                Err(error) => {
                    let none = is_negative(&error);
                    // A server failure is reported rather than a negative answer.
                    if complete || !none {
                        why = Some(error);
                    }
                    complete &= none;
                }
            }
        }
        match (ips.is_empty(), why) {
            (true, why) => Err(unknown(
                why.unwrap_or(NetError::Message("the answer was empty")),
            )),
            (false, _) => Ok(Addresses { ips, complete, ttl }),
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
            truncated,
            ttl,
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

/// Returns whether the server has reported that there is no record, as opposed to a failed query.
fn is_negative(error: &NetError) -> bool {
    matches!(error, NetError::Dns(DnsError::NoRecordsFound(none))
        if matches!(none.response_code, ResponseCode::NoError | ResponseCode::NXDomain))
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

fn min_ttl(ttls: impl Iterator<Item = u32>) -> Option<Duration> {
    ttls.min().map(|ttl| Duration::from_secs(ttl.into()))
}

/// Maximum number of hosts that are resolved at a time.
const MAX_CONCURRENT_LOOKUPS: usize = 16;

/// Maximum number of backends per DNS answer; the others are left out.
pub(crate) const MAX_ENDPOINTS: usize = 256;
