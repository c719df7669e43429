//! Checks that use the network: ports, names, backends. Each request has a timeout.

use super::{super::ask, Finding, FindingStatus};
use crate::{
    config::{AdminAddress, BackendAddress, BackendSource, Config, DnsName, HostPattern, Location},
    observe::ErrorChain,
    upstream::{self, Resolver, SourceAddrs},
};
use futures_util::future::join_all;
use std::{
    collections::{BTreeMap, BTreeSet},
    io::ErrorKind,
    net::{IpAddr, SocketAddr, TcpListener},
    time::Duration,
};
use tokio::time::timeout;

/// Checks every port, name and backend of the configuration.
pub(super) async fn check_network(config: &Config) -> Vec<Finding> {
    let mut findings = Vec::new();
    let server = &config.server;
    let running = ask::get(&server.admin.value, "/healthz", CHECK_TIMEOUT)
        .await
        .is_ok();
    let listeners = server.https.iter().chain(&server.http);
    let mut ports: Vec<SocketAddr> = listeners.map(|listen| listen.value.0).collect();
    ports.extend(server.metrics.as_ref().map(|metrics| metrics.value));
    if let AdminAddress::Tcp(address) = server.admin.value {
        ports.push(address);
    }
    findings.extend(ports.into_iter().map(|address| port(address, running)));

    let hosts: BTreeSet<&str> = config
        .routes
        .iter()
        .flat_map(|route| &route.hosts)
        .filter_map(|host| match host {
            HostPattern::Exact(host) => Some(&**host),
            HostPattern::Under(_) | HostPattern::Any => None,
        })
        .collect();
    let resolver = Resolver::system();
    for host in hosts {
        findings.push(name(&resolver, host).await);
    }

    let pools = config.pools.values().flat_map(|pool| &pool.backends);
    let pools = pools.map(|backend| (&backend.address, &backend.sources[..], backend.at));
    let direct = config.routes.iter().filter_map(|route| route.to.as_ref());
    let direct = direct.map(|to| (&to.value, &[][..], to.at));
    // A map, so that each combination of address and source addresses is checked once.
    let backends: BTreeMap<(String, Vec<IpAddr>), &BackendSource> = pools
        .chain(direct)
        .map(|(to, from, at)| ((as_written(config, to, at), from.to_vec()), to))
        .collect();
    for ((written, from), source) in backends {
        match source {
            BackendSource::One(address) => {
                findings.extend(reach(&resolver, &written, address, &from).await);
            }
            BackendSource::Dns(name) => {
                findings.extend(reach_all(&resolver, &written, name, &from).await);
            }
        }
    }
    findings
}

/// Returns the address as text, with http:// or https:// if the configuration has that instead of ws:// or wss://, so that
/// the user finds it.
fn as_written(config: &Config, address: &BackendSource, at: Option<Location>) -> String {
    let text = at.and_then(|at| {
        let source = config.sources.get(at.source)?;
        source.text.get(at.start..at.end)
    });
    let shown = address.to_string();
    match (text, shown.strip_prefix("ws")) {
        (Some(text), Some(rest)) if text.contains("http://") || text.contains("https://") => {
            format!("http{rest}")
        }
        _ => shown,
    }
}

/// Checks that the address can be bound. If it is in use, that is no problem while a lockgate answers on the admin address
/// (`running`).
fn port(address: SocketAddr, running: bool) -> Finding {
    let what = format!("port {address}");
    match TcpListener::bind(address) {
        Ok(_) => Finding::new(FindingStatus::Ok, what, "is free"),
        Err(error) if error.kind() == ErrorKind::AddrInUse && running => Finding::new(
            FindingStatus::Ok,
            what,
            "is in use, and a lockgate is running",
        ),
        Err(error) => {
            let advice = match error.kind() {
                ErrorKind::AddrInUse => "another program listens there; `ss -ltnp` shows which",
                ErrorKind::PermissionDenied => {
                    "ports below 1024 need root, or the capability CAP_NET_BIND_SERVICE"
                }
                ErrorKind::AddrNotAvailable => "this machine has no such address",
                _ => "the system refuses to bind it",
            };
            Finding::new(FindingStatus::Fail, what, format!("{error}: {advice}"))
        }
    }
}

/// Checks that the name resolves to this machine.
async fn name(resolver: &Resolver, host: &str) -> Finding {
    let what = format!("name {host}");
    let addresses = match timeout(CHECK_TIMEOUT, resolver.lookup(host)).await {
        Ok(Ok(addresses)) => addresses,
        Ok(Err(error)) => {
            let seen =
                format!("cannot be resolved here ({error}); clients need an A or AAAA record");
            return Finding::new(FindingStatus::Warn, what, seen);
        }
        Err(_) => {
            return Finding::new(
                FindingStatus::Warn,
                what,
                "the resolver did not answer in time",
            );
        }
    };
    let shown: BTreeSet<String> = addresses.iter().map(ToString::to_string).collect();
    let shown = shown.into_iter().collect::<Vec<_>>().join(", ");
    // An address that can be bound belongs to this machine.
    match addresses
        .iter()
        .any(|address| TcpListener::bind((*address, 0)).is_ok())
    {
        true => Finding::new(
            FindingStatus::Ok,
            what,
            format!("resolves to {shown}, this machine"),
        ),
        false => Finding::new(
            FindingStatus::Warn,
            what,
            format!(
                "resolves to {shown}, which is not this machine; correct only behind a load balancer or NAT"
            ),
        ),
    }
}

/// Checks that the backend accepts connections from each of `sources`.
async fn reach(
    resolver: &Resolver,
    backend: &str,
    address: &BackendAddress,
    sources: &[IpAddr],
) -> Vec<Finding> {
    let what = format!("backend {backend}");
    if sources.is_empty() {
        return vec![reach_from(resolver, what, address, &[]).await];
    }
    let each = sources.iter().map(async |from| {
        let what = format!("{what} from {from}");
        reach_from(resolver, what, address, &[*from]).await
    });
    join_all(each).await
}

async fn reach_from(
    resolver: &Resolver,
    what: String,
    address: &BackendAddress,
    from: &[IpAddr],
) -> Finding {
    let sources = SourceAddrs::new(from);
    let dialled = timeout(CHECK_TIMEOUT, upstream::dial(resolver, address, &sources));
    match dialled.await {
        Ok(Ok(_)) => Finding::new(FindingStatus::Ok, what, "accepts connections"),
        Ok(Err(error)) => Finding::new(FindingStatus::Warn, what, error.to_string()),
        Err(_) => Finding::new(
            FindingStatus::Warn,
            what,
            format!("no answer within {CHECK_TIMEOUT:?}"),
        ),
    }
}

/// Checks that the name has addresses in DNS, and that they accept connections.
async fn reach_all(
    resolver: &Resolver,
    written: &str,
    name: &DnsName,
    sources: &[IpAddr],
) -> Vec<Finding> {
    let found = match timeout(CHECK_TIMEOUT, resolver.discover(name)).await {
        Ok(Ok(found)) => found,
        Ok(Err(error)) => {
            let what = format!("backends {written}");
            return vec![Finding::new(
                FindingStatus::Warn,
                what,
                ErrorChain(&error).to_string(),
            )];
        }
        Err(_) => {
            let seen = "the resolver did not answer in time";
            return vec![Finding::new(
                FindingStatus::Warn,
                format!("backends {written}"),
                seen,
            )];
        }
    };
    let reached = found.endpoints.iter().map(async |place| {
        let backend = format!("{}, of {written}", place.address);
        reach(resolver, &backend, &place.address, sources).await
    });
    join_all(reached).await.into_iter().flatten().collect()
}

/// The timeout of each request of a check.
const CHECK_TIMEOUT: Duration = Duration::from_secs(2);
