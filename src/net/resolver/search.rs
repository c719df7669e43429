//! The addresses of a host: by its search list, and of both families.
//!
//! A and AAAA are queried at the same time. As soon as one family has an address, the other one has only the resolution
//! delay of RFC 8305 §3 left: a server that never answers for one family delays nothing. glibc waits for both.

use crate::net::resolver::{error::QueryError, exchange::DnsClient, resolv_conf::ResolvConf};
use futures_util::{FutureExt, future::BoxFuture};
use hickory_proto::{
    op::ResponseCode,
    rr::{Name, RecordType},
};
use std::{
    fmt,
    net::{IpAddr, Ipv6Addr, UdpSocket},
    sync::Arc,
    time::Duration,
};
use tokio::{
    sync::Notify,
    time::{Instant, sleep_until},
};

/// The addresses of a host, at least one.
pub(crate) struct HostAnswer {
    pub(crate) ipv4: FamilyAnswer,
    pub(crate) ipv6: FamilyAnswer,
}

/// The addresses of one family.
pub(crate) enum FamilyAnswer {
    Found(HostAddresses),
    /// A server has reported that there is none, or none is wanted.
    Nothing,
    Failed(QueryError),
    /// There was no answer within the resolution delay; the query is still running.
    Pending(BoxFuture<'static, Result<HostAddresses, QueryError>>),
}

/// A family of addresses.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum IpVersion {
    /// Records of type A.
    V4,
    /// Records of type AAAA.
    V6,
}

/// Addresses and how long they are valid.
#[derive(Debug, Clone)]
pub(crate) struct HostAddresses {
    pub(crate) ips: Vec<IpAddr>,
    pub(crate) ttl: Duration,
    /// Whether there may be more that did not fit into the answer.
    pub(crate) is_partial: bool,
}

// === impl HostAnswer ===

impl HostAnswer {
    /// Queries the addresses of the host `name`. `delay`: how long the second family may take after the first one.
    pub(crate) async fn query(
        client: &Arc<DnsClient>,
        name: &str,
        delay: Duration,
    ) -> Result<HostAnswer, QueryError> {
        let query = |name| HostAnswer::query_absolute(client.clone(), name, delay);
        search(client.conf(), name, query).await
    }

    async fn query_absolute(
        client: Arc<DnsClient>,
        name: Name,
        delay: Duration,
    ) -> Result<HostAnswer, QueryError> {
        let options = &client.conf().options;
        let (no_aaaa, one_by_one) = (options.no_aaaa, options.single_request);
        let first_is_done = Arc::new(Notify::new());
        let mut a = addresses(client.clone(), name.clone(), RecordType::A).boxed();
        let turn = first_is_done.clone();
        let mut aaaa = async move {
            if one_by_one {
                turn.notified().await;
            }
            addresses(client, name, RecordType::AAAA).await
        }
        .boxed();
        let (mut ipv4, mut ipv6) = (None, None);
        if no_aaaa {
            ipv6 = Some(Err(QueryError::NoData { ttl: None }));
        }
        let mut end: Option<Instant> = None;
        while ipv4.is_none() || ipv6.is_none() {
            tokio::select! {
                result = &mut a, if ipv4.is_none() => {
                    first_is_done.notify_one();
                    ipv4 = Some(result);
                }
                result = &mut aaaa, if ipv6.is_none() => ipv6 = Some(result),
                () = sleep_until(end.unwrap_or_else(Instant::now)), if end.is_some() => break,
            }
            let is_sufficient = match (&ipv4, &ipv6) {
                // A name that does not exist has no record of any type (RFC 8020). Only for A: some servers report this
                // error for AAAA although the name has IPv4 addresses (RFC 4074 §4.2).
                (Some(Ok(_) | Err(QueryError::NoName { .. })), None) => true,
                (None, Some(Ok(found))) => found.ips.iter().any(has_route),
                _ => false,
            };
            if is_sufficient && end.is_none() {
                end = Some(Instant::now() + delay);
            }
        }
        let family = |result, query| match result {
            Some(Ok(found)) => FamilyAnswer::Found(found),
            Some(Err(error)) if QueryError::is_negative(&error) => FamilyAnswer::Nothing,
            Some(Err(error)) => FamilyAnswer::Failed(error),
            None => FamilyAnswer::Pending(query),
        };
        match (ipv4, ipv6) {
            (Some(Err(one)), Some(Err(other))) => Err(worse(one, other)),
            (Some(Err(error)), None) | (None, Some(Err(error))) => Err(error),
            (ipv4, ipv6) => Ok(HostAnswer {
                ipv4: family(ipv4, a),
                ipv6: family(ipv6, aaaa),
            }),
        }
    }

    /// Returns the addresses so far, those of IPv4 first, in the order of the answers.
    pub(crate) fn ips(&self) -> Vec<IpAddr> {
        self.found().flat_map(|found| found.ips.clone()).collect()
    }

    /// Returns how long the addresses so far are valid.
    pub(crate) fn ttl(&self) -> Duration {
        let ttl = self.found().map(|found| found.ttl).min();
        ttl.unwrap_or_default()
    }

    /// Returns whether every query was answered completely.
    pub(crate) fn is_complete(&self) -> bool {
        [&self.ipv4, &self.ipv6].iter().all(|family| match family {
            FamilyAnswer::Found(found) => !found.is_partial,
            FamilyAnswer::Nothing => true,
            FamilyAnswer::Failed(_) | FamilyAnswer::Pending(_) => false,
        })
    }

    /// Returns the family for which there was no answer, while the other one is known completely.
    pub(crate) fn silent(&self) -> Option<IpVersion> {
        let is_known = |family: &FamilyAnswer| matches!(family, FamilyAnswer::Found(found) if !found.is_partial);
        let is_silent = |family: &FamilyAnswer| {
            matches!(
                family,
                FamilyAnswer::Pending(_) | FamilyAnswer::Failed(QueryError::Timeout)
            )
        };
        match (&self.ipv4, &self.ipv6) {
            (ipv4, ipv6) if is_known(ipv4) && is_silent(ipv6) => Some(IpVersion::V6),
            (ipv4, ipv6) if is_known(ipv6) && is_silent(ipv4) => Some(IpVersion::V4),
            _ => None,
        }
    }

    /// Waits until the second family is known too. Never completes if it is known. Cancel-safe.
    pub(crate) async fn completed(&mut self) {
        for family in [&mut self.ipv4, &mut self.ipv6] {
            if let FamilyAnswer::Pending(query) = family {
                *family = match query.await {
                    Ok(found) => FamilyAnswer::Found(found),
                    Err(error) if error.is_negative() => FamilyAnswer::Nothing,
                    Err(error) => FamilyAnswer::Failed(error),
                };
                return;
            }
        }
        std::future::pending().await
    }

    fn found(&self) -> impl Iterator<Item = &HostAddresses> {
        let families = [&self.ipv4, &self.ipv6].into_iter();
        families.filter_map(|family| match family {
            FamilyAnswer::Found(found) => Some(found),
            _ => None,
        })
    }
}

impl fmt::Debug for HostAnswer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.found()).finish()
    }
}

/// Queries `name`, and `name` in each domain of the search list, until a query succeeds. The order is that of
/// resolv.conf(5) and glibc (`res_query.c`).
pub(crate) async fn search<T, F: Future<Output = Result<T, QueryError>>>(
    conf: &ResolvConf,
    name: &str,
    query: impl Fn(Name) -> F,
) -> Result<T, QueryError> {
    let bad = |error: hickory_proto::ProtoError| QueryError::BadName(error.to_string());
    let absolute = Name::from_str_relaxed(name).map_err(bad)?;
    let as_is = || {
        let mut absolute = absolute.clone();
        absolute.set_fqdn(true);
        query(absolute)
    };
    if name.ends_with('.') {
        return as_is().await;
    }
    let dots = name.bytes().filter(|&byte| byte == b'.').count();
    let mut first = None;
    if dots >= conf.options.ndots {
        match as_is().await {
            Ok(found) => return Ok(found),
            Err(error) => first = Some(error),
        }
    }
    let mut last = None;
    for domain in &conf.search {
        let mut candidate = absolute.clone();
        candidate.set_fqdn(false);
        // Too long in this domain: it cannot exist there.
        let Ok(mut candidate) = candidate.append_domain(domain) else {
            continue;
        };
        candidate.set_fqdn(true);
        let error = match query(candidate).await {
            Ok(found) => return Ok(found),
            Err(error) => error,
        };
        let goes_on = match &error {
            QueryError::NoName { .. }
            | QueryError::NoData { .. }
            | QueryError::Server(ResponseCode::ServFail) => true,
            // No server can be reached for the other names either.
            QueryError::Unreachable(_) => return Err(error),
            _ => false,
        };
        // An existing name without a record is reported rather than one that does not exist.
        last = match (last, error) {
            (Some(one @ QueryError::NoData { .. }), other) if other.is_negative() => Some(one),
            (_, other) => Some(other),
        };
        if !goes_on {
            break;
        }
    }
    let has_root = conf.search.iter().any(Name::is_root);
    let may_be_top_level = dots > 0 || conf.search.is_empty() || !conf.options.no_tld_query;
    if first.is_none() && !has_root && may_be_top_level {
        match as_is().await {
            Ok(found) => return Ok(found),
            Err(error) => last = last.or(Some(error)),
        }
    }
    Err(first.or(last).unwrap_or(QueryError::NoName { ttl: None }))
}

async fn addresses(
    client: Arc<DnsClient>,
    name: Name,
    kind: RecordType,
) -> Result<HostAddresses, QueryError> {
    let records = client.records(&name, kind).await?;
    let mut ips = Vec::new();
    for ip in records.data.iter().filter_map(|data| data.ip_addr()) {
        if !ips.contains(&ip) {
            ips.push(ip);
        }
    }
    if ips.is_empty() {
        return Err(QueryError::Empty("the answer has no address"));
    }
    Ok(HostAddresses {
        ips,
        ttl: records.ttl,
        is_partial: records.is_partial,
    })
}

/// Returns whether this machine has a route to an address; no packet is sent. Without one, an IPv6 address that is
/// known first is of no use, and IPv4 is waited for.
fn has_route(ip: &IpAddr) -> bool {
    let connected = UdpSocket::bind((Ipv6Addr::UNSPECIFIED, 0))
        .and_then(|socket| socket.connect((*ip, DISCARD_PORT)));
    connected.is_ok()
}

/// Returns the error of two families: a failed query, then a name that does not exist.
fn worse(one: QueryError, other: QueryError) -> QueryError {
    match (&one, &other) {
        _ if !one.is_negative() => one,
        _ if !other.is_negative() => other,
        (QueryError::NoName { .. }, _) => one,
        (_, QueryError::NoName { .. }) => other,
        _ => one,
    }
}

/// The resolution delay (RFC 8305 §3 and §8).
pub(crate) const RESOLUTION_DELAY: Duration = Duration::from_millis(50);

/// A port for the choice of a route; nothing is sent there.
const DISCARD_PORT: u16 = 9;
