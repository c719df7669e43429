//! All that DNS has under a name, for pools: never from memory, and with how long it is good for.

use super::{ResolveError, Resolver, is_localhost};
use crate::config::{BackendAddress, DnsName, Scheme};
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

/// What DNS has; in an order of ours, for servers turn theirs from answer to answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DnsAnswer {
    /// Where there are backends.
    pub places: Vec<Endpoint>,
    /// Every question was answered: who is not here is not there.
    pub complete: bool,
    /// So many more there were than are taken.
    pub truncated: usize,
    /// For how long it is good; `None`: nobody says so.
    pub ttl: Option<Duration>,
}

/// A backend in DNS.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Endpoint {
    /// An address and a port.
    pub address: BackendAddress,
    /// Its weight beside the others'; 1 unless DNS says so.
    pub share: u16,
}

/// The addresses of one host.
struct Addresses {
    ips: Vec<IpAddr>,
    whole: bool,
    ttl: Option<Duration>,
}

// === impl Resolver ===

impl Resolver {
    /// The backends under `name`, never none. Of services only those of the first priority (RFC 2782). The caller sets the
    /// deadline.
    pub async fn discover(&self, name: &DnsName) -> Result<DnsAnswer, ResolveError> {
        match name {
            DnsName::Addresses { name, port } => {
                let found = self.addresses(name).await?;
                let places = found.ips.iter().map(|ip| Endpoint::new(*ip, *port, 1));
                Ok(DnsAnswer::new(places.collect(), found.whole, found.ttl))
            }
            DnsName::Services { name } => self.services(name).await,
        }
    }

    async fn services(&self, name: &str) -> Result<DnsAnswer, ResolveError> {
        let unknown = |source| self.unknown(source);
        let name = Name::from_str_relaxed(name).map_err(|error| unknown(error.into()))?;
        let files = self.0.files();
        let servers = self.servers(&files)?;
        let found = servers.pools.lookup(name, RecordType::SRV).await;
        let found = found.map_err(unknown)?;
        let mut ttl = least(found.answers().iter().map(|record| record.ttl));
        let services = found
            .answers()
            .iter()
            .filter_map(|record| match &record.data {
                // A target of "." says that there is no such service here; and nobody listens on port 0.
                RData::SRV(service) if !service.target.is_root() && service.port > 0 => {
                    Some(service)
                }
                _ => None,
            });
        let first = services.clone().map(|service| service.priority).min();
        let services = services.filter(|service| Some(service.priority) == first);
        let mut services: Vec<_> = services.collect();
        // Of more than are taken each answer would be other ones.
        services.sort_unstable_by_key(|service| (&service.target, service.port));
        let left_out = services.len().saturating_sub(MOST);
        services.truncate(MOST);
        let heaviest = services.iter().map(|service| service.weight).max();
        // Several services may be on one host, and all of them at once would be too much for a server to answer in time.
        let hosts: BTreeSet<_> = services.iter().map(|service| &service.target).collect();
        let hosts: Vec<_> = hosts.into_iter().collect();
        let (mut known, mut whole, mut why) = (BTreeMap::new(), true, None);
        for some in hosts.chunks(AT_A_TIME) {
            let asked = some
                .iter()
                .map(async |host| (*host, self.addresses(&host.to_utf8()).await));
            for (host, found) in join_all(asked).await {
                match found {
                    Ok(found) => {
                        whole &= found.whole;
                        ttl = [ttl, found.ttl].into_iter().flatten().min();
                        known.insert(host, found.ips);
                    }
                    // A host of which nobody says that there is none may still be there.
                    Err(error) => {
                        whole &= matches!(&error, ResolveError::Unknown { reason, .. } if is_negative(reason));
                        why = Some(error);
                    }
                }
            }
        }
        let all = services.iter().flat_map(|service| {
            let share = share(service.weight, heaviest);
            let ips = known.get(&service.target).into_iter().flatten();
            ips.map(move |ip| Endpoint::new(*ip, service.port, share))
        });
        let all: Vec<_> = all.collect();
        match (all.is_empty(), why) {
            (true, Some(error)) => Err(error),
            (true, None) => Err(unknown(NetError::Message("the answer has no service"))),
            (false, _) => {
                let mut found = DnsAnswer::new(all, whole, ttl);
                found.truncated += left_out;
                Ok(found)
            }
        }
    }

    /// The addresses of a host, never none; with those of one family where nobody answers about the other.
    async fn addresses(&self, name: &str) -> Result<Addresses, ResolveError> {
        let listed = |ips| Addresses {
            ips,
            whole: true,
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
        let (mut ips, mut ttl, mut whole, mut why) = (Vec::new(), None, true, None);
        for answer in [v4, v6] {
            match answer {
                Ok(found) => {
                    let records = found.answers();
                    ips.extend(records.iter().filter_map(|record| record.data.ip_addr()));
                    let good = least(records.iter().map(|record| record.ttl));
                    ttl = [ttl, good].into_iter().flatten().min();
                }
                Err(error) => {
                    let none = is_negative(&error);
                    // That a server fails is worth more words than that it knows none.
                    if whole || !none {
                        why = Some(error);
                    }
                    whole &= none;
                }
            }
        }
        match (ips.is_empty(), why) {
            (true, why) => Err(unknown(
                why.unwrap_or(NetError::Message("the answer was empty")),
            )),
            (false, _) => Ok(Addresses { ips, whole, ttl }),
        }
    }
}

// === impl DnsAnswer ===

impl DnsAnswer {
    fn new(mut places: Vec<Endpoint>, complete: bool, ttl: Option<Duration>) -> Self {
        places.sort_unstable();
        places.dedup_by(|one, other| one.address == other.address);
        let truncated = places.len().saturating_sub(MOST);
        places.truncate(MOST);
        DnsAnswer {
            places,
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
            address: BackendAddress::Tcp {
                scheme: Scheme::Plain,
                host: ip.to_canonical().to_string().into(),
                port,
            },
            share,
        }
    }
}

/// Whether the server has said that there is none, and not merely failed to say.
fn is_negative(error: &NetError) -> bool {
    matches!(error, NetError::Dns(DnsError::NoRecordsFound(none))
        if matches!(none.response_code, ResponseCode::NoError | ResponseCode::NXDomain))
}

/// Of the heaviest a hundred at most: turns are divided by weights. A weight of 0 is "a very small proportion" (RFC 2782).
fn share(weight: u16, heaviest: Option<u16>) -> u16 {
    match heaviest {
        Some(heaviest) if heaviest > 100 => {
            (u32::from(weight) * 100 / u32::from(heaviest)).max(1) as u16
        }
        _ => weight.max(1),
    }
}

fn least(ttls: impl Iterator<Item = u32>) -> Option<Duration> {
    ttls.min().map(|ttl| Duration::from_secs(ttl.into()))
}

/// Hosts that are asked for.
const AT_A_TIME: usize = 16;

/// More backends than a pool is of use with; what comes after them in an answer is left out.
pub(in crate::upstream) const MOST: usize = 256;
