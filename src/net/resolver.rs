//! Resolves names to addresses: from `/etc/hosts`, then from the servers in `/etc/resolv.conf`.
//!
//! The C library is not used: it resolves names with loadable modules (NSS), which a static program in an empty root
//! does not have. Sources of other modules (`nsswitch.conf`: mDNS, NIS, machines of systemd) are not queried.

use crate::fs as files;
use hickory_resolver::{
    Hosts, TokioResolver,
    config::{LookupIpStrategy, ResolveHosts},
    net::{DnsError, NetError, runtime::TokioRuntimeProvider},
    proto::{
        op::{Query, ResponseCode},
        rr::{Name, RecordType},
    },
    system_conf::parse_resolv_conf,
};
use std::{
    fs, io,
    net::{IpAddr, Ipv4Addr, Ipv6Addr},
    path::{Path, PathBuf},
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, SystemTime},
};
use tracing::warn;

/// Why a name has no address.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ResolveError {
    /// No DNS server is configured.
    #[error(
        "it is not in {}, and {} names no DNS server: {}",
        .hosts.display(),
        .servers.display(),
        describe(.reason)
    )]
    NoServer {
        /// The path of the hosts file.
        hosts: PathBuf,
        /// The file that should name the servers.
        servers: PathBuf,
        /// The error in that file.
        reason: Box<NetError>,
    },
    /// The hosts file does not have the name, and the DNS query failed.
    #[error("it is not in {}; DNS: {}", .hosts.display(), describe(.reason))]
    Unknown {
        /// The path of the hosts file.
        hosts: PathBuf,
        /// The error of the DNS query.
        reason: Box<NetError>,
    },
}

/// Resolves names; clones share the files and the cache.
#[derive(Debug, Clone)]
pub(crate) struct Resolver(pub(crate) Arc<ResolverInner>);

#[derive(Debug)]
pub(crate) struct ResolverInner {
    hosts: PathBuf,
    servers: PathBuf,
    /// The files as last read; read for the first name.
    read: Mutex<Option<(FileStamps, Arc<ResolverFiles>)>>,
}

/// The contents of the two files.
#[derive(Debug)]
pub(crate) struct ResolverFiles {
    pub(crate) hosts: Hosts,
    pub(crate) servers: Result<DnsServers, NetError>,
}

/// Clients of the configured DNS servers.
#[derive(Debug)]
pub(crate) struct DnsServers {
    /// For dials: answers are cached for a short time.
    dials: TokioResolver,
    /// For pools, which query again when an answer has expired: without a cache.
    pub(crate) pools: TokioResolver,
}

/// Size and time of the two files when they were read.
type FileStamps = [Option<(SystemTime, u64)>; 2];

// === impl Resolver ===

impl Resolver {
    /// Creates a resolver that reads the system's files, again whenever they have changed, for example after a change
    /// of networks.
    pub(crate) fn system() -> Self {
        Resolver::with_files("/etc/hosts", "/etc/resolv.conf")
    }

    fn with_files(hosts: impl Into<PathBuf>, servers: impl Into<PathBuf>) -> Self {
        Resolver(Arc::new(ResolverInner {
            hosts: hosts.into(),
            servers: servers.into(),
            read: Mutex::default(),
        }))
    }

    /// Returns the addresses of `name`, at least one. An address or `localhost` needs no query. The caller sets the
    /// deadline.
    pub(crate) async fn lookup(&self, name: &str) -> Result<Vec<IpAddr>, ResolveError> {
        if let Ok(address) = name.parse() {
            return Ok(vec![address]);
        }
        if is_localhost(name) {
            return Ok(vec![Ipv4Addr::LOCALHOST.into(), Ipv6Addr::LOCALHOST.into()]);
        }
        let unknown = |source| self.unknown(source);
        // An underscore is not allowed in host names, but in those that Compose assigns.
        let name = Name::from_str_relaxed(name).map_err(|error| unknown(error.into()))?;
        let files = self.0.files();
        let listed = files.lookup_hosts_file(&name);
        if !listed.is_empty() {
            return Ok(listed);
        }
        let servers = self.servers(&files)?;
        let found = servers.dials.lookup_ip(name).await.map_err(unknown)?;
        let found: Vec<_> = found.iter().collect();
        match found.is_empty() {
            true => Err(unknown(NetError::Message("the answer was empty"))),
            false => Ok(found),
        }
    }

    /// Creates the error of a name that neither the hosts file nor DNS resolves.
    pub(crate) fn unknown(&self, reason: NetError) -> ResolveError {
        ResolveError::Unknown {
            hosts: self.0.hosts.clone(),
            reason: Box::new(reason),
        }
    }

    /// Returns the DNS servers.
    ///
    /// # Errors
    /// Fails if the system configures none.
    pub(crate) fn servers<'a>(
        &self,
        files: &'a ResolverFiles,
    ) -> Result<&'a DnsServers, ResolveError> {
        let servers = files.servers.as_ref();
        servers.map_err(|error| ResolveError::NoServer {
            hosts: self.0.hosts.clone(),
            servers: self.0.servers.clone(),
            reason: Box::new(error.clone()),
        })
    }
}

// === impl ResolverInner ===

impl ResolverInner {
    /// Returns the content of the hosts file and of the list of DNS servers, which is read again after a change.
    pub(crate) fn files(&self) -> Arc<ResolverFiles> {
        let stamp = [&self.hosts, &self.servers].map(|file| stamp(file));
        let mut read = self.read.lock().unwrap_or_else(PoisonError::into_inner);
        match &*read {
            Some((then, files)) if *then == stamp => files.clone(),
            _ => {
                let files = Arc::new(ResolverFiles::read(&self.hosts, &self.servers));
                *read = Some((stamp, files.clone()));
                files
            }
        }
    }
}

// === impl ResolverFiles ===

impl ResolverFiles {
    fn read(hosts: &Path, servers: &Path) -> Self {
        let mut listed = Hosts::default();
        let read = files::read(hosts, MAX_FILE_LEN).map_err(io::Error::other);
        let read = read.and_then(|text| listed.read_hosts_conf(&*text));
        if let Err(error) = read {
            warn!(%error, "cannot read {}; names are resolved by DNS only", hosts.display());
        }
        let dns_servers = build_servers(servers);
        if let Err(error) = &dns_servers {
            warn!(%error, "no DNS server in {}; names are resolved from {} only", servers.display(), hosts.display());
        }
        ResolverFiles {
            hosts: listed,
            servers: dns_servers,
        }
    }

    /// Returns the addresses that the hosts file has for the name.
    pub(crate) fn lookup_hosts_file(&self, name: &Name) -> Vec<IpAddr> {
        [RecordType::A, RecordType::AAAA]
            .into_iter()
            .filter_map(|kind| {
                self.hosts
                    .lookup_static_host(&Query::query(name.clone(), kind))
            })
            .flat_map(|found| {
                found
                    .answers()
                    .iter()
                    .filter_map(|record| record.data.ip_addr())
                    .collect::<Vec<_>>()
            })
            .collect()
    }
}

/// Describes an error without the resolver's internal terms.
fn describe(reason: &NetError) -> String {
    match reason {
        NetError::Dns(DnsError::NoRecordsFound(none)) => match none.response_code {
            ResponseCode::NoError => {
                "the name exists, but has no record of the requested type".into()
            }
            ResponseCode::NXDomain => "there is no such name (NXDOMAIN)".into(),
            code => format!("the server reports an error ({code})"),
        },
        NetError::Dns(DnsError::ResponseCode(code)) => {
            format!("the server reports an error ({code})")
        }
        NetError::Timeout => "no server has answered in time".into(),
        NetError::NoConnections => "no server can be reached".into(),
        other => other.to_string(),
    }
}

fn build_servers(servers: &Path) -> Result<DnsServers, NetError> {
    let text = files::read(servers, MAX_FILE_LEN).map_err(io::Error::other)?;
    let (config, mut options) = parse_resolv_conf(text)?;
    // The hosts file is read separately.
    options.use_hosts_file = ResolveHosts::Never;
    options.ip_strategy = LookupIpStrategy::Ipv4AndIpv6;
    let build = |options| {
        TokioResolver::builder_with_config(config.clone(), TokioRuntimeProvider::default())
            .with_options(options)
            .build()
    };
    let mut uncached = options.clone();
    uncached.cache_size = 0;
    options.positive_max_ttl = Some(MAX_CACHE_TTL);
    options.negative_max_ttl = Some(MAX_CACHE_TTL);
    Ok(DnsServers {
        dials: build(options)?,
        pools: build(uncached)?,
    })
}

fn stamp(file: &Path) -> Option<(SystemTime, u64)> {
    let metadata = fs::metadata(file).ok()?;
    Some((metadata.modified().ok()?, metadata.len()))
}

/// Returns whether the name is `localhost` or below it: these stand for this machine (RFC 6761 §6.3).
pub(crate) fn is_localhost(name: &str) -> bool {
    let name = name.strip_suffix('.').unwrap_or(name);
    let last = name.rsplit('.').next().unwrap_or_default();
    last.eq_ignore_ascii_case("localhost")
}

/// The maximum length of each of the two files: some blocklists in /etc/hosts have a few MiB.
const MAX_FILE_LEN: u64 = 16 << 20;

/// Maximum time in the cache: Docker sends ten minutes for addresses that change with each restart.
const MAX_CACHE_TTL: Duration = Duration::from_secs(2);

#[cfg(test)]
mod tests {
    use super::*;

    fn resolver(folder: &Path) -> Resolver {
        Resolver::with_files(folder.join("hosts"), folder.join("resolv.conf"))
    }

    #[tokio::test]
    async fn addresses_and_localhost_need_no_file() {
        let folder = tempfile::tempdir().unwrap();
        let resolver = resolver(folder.path());
        let here: Vec<IpAddr> = vec![Ipv4Addr::LOCALHOST.into(), Ipv6Addr::LOCALHOST.into()];
        for (name, expected) in [
            ("10.1.2.3", vec!["10.1.2.3".parse().unwrap()]),
            ("2001:db8::1", vec!["2001:db8::1".parse().unwrap()]),
            ("localhost", here.clone()),
            ("LocalHost.", here.clone()),
            ("app.localhost", here),
        ] {
            assert_eq!(resolver.lookup(name).await.unwrap(), expected, "{name}");
        }
        assert!(resolver.0.read.lock().unwrap().is_none(), "a file was read");
    }

    #[tokio::test]
    async fn hosts_file_needs_no_dns_server_and_is_reloaded_on_change() {
        let folder = tempfile::tempdir().unwrap();
        let resolver = resolver(folder.path());
        let write = |text: &str| fs::write(folder.path().join("hosts"), text).unwrap();
        write("10.0.0.7 app my_app # ours\nfd00::7 app\n");
        let expected: Vec<IpAddr> = vec!["10.0.0.7".parse().unwrap(), "fd00::7".parse().unwrap()];
        assert_eq!(resolver.lookup("App").await.unwrap(), expected);
        assert_eq!(resolver.lookup("my_app").await.unwrap(), expected[..1]);
        write("10.0.0.88 app\n");
        let expected: Vec<IpAddr> = vec!["10.0.0.88".parse().unwrap()];
        assert_eq!(resolver.lookup("app").await.unwrap(), expected);
    }

    #[tokio::test]
    async fn lookup_without_dns_server_returns_no_server() {
        let folder = tempfile::tempdir().unwrap();
        let resolver = resolver(folder.path());
        for servers in [None, Some("search example.com\n")] {
            if let Some(text) = servers {
                fs::write(folder.path().join("resolv.conf"), text).unwrap();
            }
            let error = resolver.lookup("app.example").await.unwrap_err();
            assert!(matches!(error, ResolveError::NoServer { .. }), "{error:?}");
            assert!(
                error
                    .to_string()
                    .contains("resolv.conf names no DNS server"),
                "{error}"
            );
        }
        let error = resolver.lookup("not a..name").await.unwrap_err();
        assert!(matches!(error, ResolveError::Unknown { .. }), "{error:?}");
    }
}
