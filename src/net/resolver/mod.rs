//! Resolves names to addresses: from `/etc/hosts`, then from the servers in `/etc/resolv.conf`, as hosts(5) and
//! resolv.conf(5) describe it.
//!
//! The C library is not used: it resolves names with loadable modules (NSS), which a static program in an empty root
//! does not have. Sources of other modules (`nsswitch.conf`: mDNS, NIS, machines of systemd) are not queried.
//!
//! `search` is the way of a lookup in DNS: the search list, and both families at the same time. `exchange` sends one
//! query to the servers in turn, `message` encodes and decodes it, and `cache` keeps the answers. `resolv_conf` and
//! `hosts` parse the two files. Where a lookup differs from glibc:
//! - addresses of one family do not wait longer than 50 ms for those of the other one;
//! - answers are kept for their TTL, also negative ones for a short time;
//! - a truncated answer is used if no server answers over TCP;
//! - `localhost` and names below it are this machine, and never queried (RFC 6761 §6.3);
//! - lines may end with CR LF.

pub(crate) mod cache;
pub(crate) mod error;
pub(crate) mod exchange;
mod hosts;
pub(crate) mod message;
mod resolv_conf;
pub(crate) mod search;
mod skipped;

pub(crate) use error::{QueryError, ResolveError};

use crate::{fs as files, lifecycle::tasks::Tasks};
use cache::NameCache;
use exchange::DnsClient;
use hosts::HostsFile;
use resolv_conf::{ResolvConf, ResolverEnvironment};
use search::{HostAnswer, RESOLUTION_DELAY};
use skipped::log_skipped;
use std::{
    env, fs,
    net::{IpAddr, Ipv4Addr, Ipv6Addr},
    os::unix::fs::MetadataExt,
    path::{Path, PathBuf},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::SystemTime,
};
use tracing::warn;

/// Resolves names; clones share the files and the cache.
#[derive(Debug, Clone)]
pub(crate) struct Resolver(Arc<ResolverInner>);

#[derive(Debug)]
struct ResolverInner {
    hosts: WatchedFile<HostsFile>,
    servers: WatchedFile<DnsClient>,
    cache: Option<NameCache>,
}

/// A file that is read again after a change, and what it contains.
#[derive(Debug)]
struct WatchedFile<T> {
    path: PathBuf,
    /// The content as last read; read for the first name.
    read: Mutex<Option<(FileStamp, Arc<T>)>>,
}

/// Time, size and inode of a file when it was read; `None`: there is no such file.
type FileStamp = Option<(SystemTime, u64, u64)>;

// === impl Resolver ===

impl Resolver {
    /// Creates a resolver that reads the system's files, again whenever they have changed, for example after a change
    /// of networks. It has no cache.
    pub(crate) fn system() -> Self {
        Resolver::with_files("/etc/hosts", "/etc/resolv.conf", None)
    }

    /// Creates a resolver for the system's files with a cache, whose queries run as `tasks`.
    pub(crate) fn cached(tasks: Tasks) -> Self {
        let cache = NameCache::new(tasks);
        Resolver::with_files("/etc/hosts", "/etc/resolv.conf", Some(cache))
    }

    fn with_files(
        hosts: impl Into<PathBuf>,
        servers: impl Into<PathBuf>,
        cache: Option<NameCache>,
    ) -> Self {
        Resolver(Arc::new(ResolverInner {
            hosts: WatchedFile::new(hosts.into()),
            servers: WatchedFile::new(servers.into()),
            cache,
        }))
    }

    /// Returns the addresses of `name`, at least one, in the order of the answer. An address or `localhost` needs no
    /// query. The caller sets the deadline.
    pub(crate) async fn lookup(&self, name: &str) -> Result<Vec<IpAddr>, ResolveError> {
        if let Ok(address) = name.parse() {
            return Ok(vec![address]);
        }
        if let Some(listed) = self.listed(name) {
            return Ok(listed);
        }
        let client = self.client();
        let found = match &self.0.cache {
            Some(cache) => cache.lookup(&client, name).await,
            None => {
                let answer = HostAnswer::query(&client, name, RESOLUTION_DELAY).await;
                answer.map(|answer| answer.ips())
            }
        };
        found.map_err(|error| self.unknown(error))
    }

    /// Notes that no address of `name` accepts a connection, so that the next lookup queries the name again.
    pub(crate) fn expire(&self, name: &str) {
        if let Some(cache) = &self.0.cache {
            cache.expire(name);
        }
    }

    /// Returns the addresses that need no query: those in the hosts file, and of `localhost`.
    pub(crate) fn listed(&self, name: &str) -> Option<Vec<IpAddr>> {
        let hosts = self.0.hosts.content(|text| {
            let (hosts, skipped) = HostsFile::parse(
                text.unwrap_or_else(|error| {
                    warn!(%error, "cannot read the hosts file; names are resolved by DNS only");
                    Vec::new()
                })
                .as_slice(),
            );
            log_skipped(&self.0.hosts.path, &skipped);
            hosts
        });
        let mut listed = hosts.addresses(name).to_vec();
        if is_localhost(name) {
            for address in [Ipv4Addr::LOCALHOST.into(), Ipv6Addr::LOCALHOST.into()] {
                if !listed.contains(&address) {
                    listed.push(address);
                }
            }
        }
        (!listed.is_empty()).then_some(listed)
    }

    /// Returns the client of the configured DNS servers.
    pub(crate) fn client(&self) -> Arc<DnsClient> {
        let servers = &self.0.servers;
        if let Some(client) = servers.current()
            && client.conf().options.no_reload
        {
            return client;
        }
        servers.content(|text| {
            let text = text.unwrap_or_else(|error| {
                warn!(%error, "cannot read the list of DNS servers; the server of this machine is queried");
                Vec::new()
            });
            let (conf, skipped) = ResolvConf::parse(&text, &environment());
            log_skipped(&servers.path, &skipped);
            DnsClient::new(conf)
        })
    }

    /// Creates the error of a name that neither the hosts file nor DNS resolves.
    pub(crate) fn unknown(&self, reason: QueryError) -> ResolveError {
        let hosts = self.0.hosts.path.clone();
        let client = self.0.servers.current();
        let is_default = client.is_some_and(|client| client.conf().is_default_server);
        if is_default && matches!(reason, QueryError::Timeout | QueryError::Unreachable(_)) {
            return ResolveError::NoServer {
                hosts,
                servers: self.0.servers.path.clone(),
                reason,
            };
        }
        ResolveError::Unknown { hosts, reason }
    }
}

// === impl WatchedFile ===

impl<T> WatchedFile<T> {
    fn new(path: PathBuf) -> Self {
        WatchedFile {
            path,
            read: Mutex::default(),
        }
    }

    /// Returns the content, which is read again if the file has changed.
    fn content(&self, parse: impl FnOnce(Result<Vec<u8>, files::ReadError>) -> T) -> Arc<T> {
        let stamp = stamp(&self.path);
        if let Some((then, content)) = &*self.lock()
            && *then == stamp
        {
            return content.clone();
        }
        // Without the lock, so that other lookups do not wait for the disk; some of them may read the file too.
        let content = Arc::new(parse(files::read(&self.path, MAX_FILE_LEN)));
        *self.lock() = Some((stamp, content.clone()));
        content
    }

    /// Returns the content as last read.
    fn current(&self) -> Option<Arc<T>> {
        let read = self.lock();
        read.as_ref().map(|(_, content)| content.clone())
    }

    // No panic can occur while the content is only partly updated.
    fn lock(&self) -> MutexGuard<'_, Option<(FileStamp, Arc<T>)>> {
        self.read.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Returns what resolv.conf(5) takes from the environment.
fn environment() -> ResolverEnvironment {
    let name = rustix::system::uname();
    ResolverEnvironment {
        local_domain: env::var("LOCALDOMAIN").ok(),
        options: env::var("RES_OPTIONS").ok(),
        host_name: name.nodename().to_string_lossy().into_owned(),
    }
}

fn stamp(file: &Path) -> FileStamp {
    let metadata = fs::metadata(file).ok()?;
    Some((metadata.modified().ok()?, metadata.len(), metadata.ino()))
}

/// Returns whether the name is `localhost` or below it: these stand for this machine (RFC 6761 §6.3).
fn is_localhost(name: &str) -> bool {
    let name = name.strip_suffix('.').unwrap_or(name);
    let last = name.rsplit('.').next().unwrap_or_default();
    last.eq_ignore_ascii_case("localhost")
}

/// The maximum length of each of the two files: some blocklists in /etc/hosts have a few MiB.
const MAX_FILE_LEN: u64 = 16 << 20;

#[cfg(test)]
mod tests {
    use super::*;

    fn resolver(folder: &Path) -> Resolver {
        Resolver::with_files(folder.join("hosts"), folder.join("resolv.conf"), None)
    }

    #[tokio::test]
    async fn addresses_and_localhost_need_no_file_and_no_query() {
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
    async fn localhost_is_this_machine_in_addition_to_its_entries_in_the_hosts_file() {
        let folder = tempfile::tempdir().unwrap();
        let resolver = resolver(folder.path());
        fs::write(
            folder.path().join("hosts"),
            "10.0.0.7 localhost\n::1 localhost\n",
        )
        .unwrap();
        let expected: Vec<IpAddr> = ["10.0.0.7", "::1", "127.0.0.1"]
            .map(|address| address.parse().unwrap())
            .into();
        assert_eq!(resolver.lookup("localhost").await.unwrap(), expected);
    }

    #[tokio::test]
    async fn text_that_is_no_domain_name_is_unknown() {
        let folder = tempfile::tempdir().unwrap();
        fs::write(folder.path().join("resolv.conf"), "nameserver 127.0.0.1\n").unwrap();
        let error = resolver(folder.path())
            .lookup("not a..name")
            .await
            .unwrap_err();
        assert!(
            matches!(
                &error,
                ResolveError::Unknown {
                    reason: QueryError::BadName(_),
                    ..
                }
            ),
            "{error:?}"
        );
    }
}
