//! `lockgate doctor`: finds problems of this machine and of a configuration. Checks of descriptors, the clock and
//! certificates need no network; ports, names and backends do, and each of their requests has a timeout.

pub(crate) mod finding;
pub(crate) mod storage;

use crate::{
    cli::{
        args::DoctorArgs,
        cert, client,
        doctor::{
            finding::{Finding, FindingStatus, print_findings},
            storage::written_files,
        },
        files::read_files,
        output::EX_USAGE,
        progress::ProgressDisplay,
    },
    config::{
        Acme, AdminAddress, Backend, BackendAddress, BackendSource, Config, Diagnostics, DnsName,
        HostPattern, Located, Location, Pool,
    },
    gateway::Gateway,
    lifecycle::process,
    net::{
        descriptors::reserved_descriptors,
        dial::{self, DialAddress, DialError, DialOptions, DialedStream, SourceAddrs},
        dns::MAX_ENDPOINTS,
        happy_eyeballs::{AddressHistory, AttemptPermits},
        listen, pem,
        resolver::{Resolver, search::RESOLUTION_DELAY},
    },
    observe::logging::ErrorChain,
    tls::{acme::ca_check::check_ca, chain, x509},
    upstream::member,
};
use anyhow::Context;
use futures_util::future::{join, join_all};
use rustls::pki_types::UnixTime;
use std::{
    collections::{BTreeMap, BTreeSet},
    io::ErrorKind,
    net::{IpAddr, SocketAddr, TcpListener},
    process::ExitCode,
    time::{Duration, SystemTime, UNIX_EPOCH},
};
use tokio::{runtime, time::timeout};

/// Runs every check: returns 0 if no check fails, 1 if one fails, 64 if the configuration is invalid.
pub(crate) fn doctor(arguments: &DoctorArgs) -> anyhow::Result<ExitCode> {
    let mut findings = check_machine();
    if let Some(file) = arguments.file.path() {
        let (path, data) = (file.to_owned(), arguments.data.data.clone());
        let checked = read_files(move || {
            let config = Config::load(&path)?;
            let dev = if config.tls.dev_ca {
                cert::peek(data.as_deref()).ok()
            } else {
                None
            };
            Gateway::build(&config, None, &cert::issuers(dev.as_ref()))?;
            let mut findings = certificates(&config);
            findings.extend(written_files(&config, data.as_deref()));
            Ok::<_, Diagnostics>((config, findings))
        })?;
        let (mut config, certificates) = match checked {
            Ok(checked) => checked,
            Err(diagnostics) => {
                print_findings(&findings, arguments.json)?;
                eprintln!("{diagnostics}");
                return Ok(ExitCode::from(EX_USAGE));
            }
        };
        if let Some(admin) = &arguments.admin {
            config.server.admin = Located::nowhere(admin.clone());
        }
        let shown = file.display().to_string();
        let warnings = &config.warnings;
        findings.push(match warnings.list.len() {
            0 => Finding::new(FindingStatus::Ok, shown, "is a valid configuration"),
            count => {
                let seen = format!("is valid, with warnings: {count}; `lockgate check` shows them");
                Finding::new(FindingStatus::Warn, shown, seen)
            }
        });
        findings.extend(certificates);
        let runtime = runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .context("cannot start the runtime")?;
        let progress = ProgressDisplay::start("checking ports");
        findings.extend(runtime.block_on(check_network(&config, &progress)));
    }
    print_findings(&findings, arguments.json)?;
    let failed = findings
        .iter()
        .any(|finding| finding.state == FindingStatus::Fail);
    Ok(if failed {
        ExitCode::FAILURE
    } else {
        ExitCode::SUCCESS
    })
}

/// Checks the machine, independent of the configuration.
fn check_machine() -> Vec<Finding> {
    vec![file_descriptors(), clock()]
}

fn file_descriptors() -> Finding {
    let descriptors = process::raise_nofile_limit();
    let seen = format!(
        "the limit is {descriptors}, enough for {} sessions",
        descriptors.saturating_sub(reserved_descriptors(descriptors)) / 2
    );
    match descriptors {
        0..RECOMMENDED_DESCRIPTORS => Finding::new(
            FindingStatus::Warn,
            "file descriptors",
            format!("{seen}; raise LimitNOFILE (systemd) or ulimit -n for more"),
        ),
        _ => Finding::new(FindingStatus::Ok, "file descriptors", seen),
    }
}

fn clock() -> Finding {
    let now = SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .unwrap_or_default();
    let shown = humantime::format_rfc3339_seconds(UNIX_EPOCH + now);
    if now < RELEASE_DATE {
        Finding::new(
            FindingStatus::Fail,
            "clock",
            format!(
                "{shown} is before the release of this program, so certificates are not valid yet: set the clock, or start NTP"
            ),
        )
    } else {
        Finding::new(FindingStatus::Ok, "clock", shown.to_string())
    }
}

/// Checks how long each certificate in a file is still valid. Other errors are reported by `check`.
fn certificates(config: &Config) -> Vec<Finding> {
    let files = config.tls.certificates.iter().map(|pair| &pair.value.cert);
    files
        .filter_map(|file| {
            let chain = pem::read_certificates(file).ok()?;
            let der = chain.first()?;
            let now = UnixTime::now();
            let file = file.display().to_string();
            if let Some(problem) = x509::date_problem(der, now) {
                return Some(Finding::new(FindingStatus::Fail, file, problem));
            }
            let until = x509::cert_info(der)?.not_after;
            let days = until.saturating_sub_unsigned(now.as_secs()) / DAY;
            let seen = format!("valid until {}; days left: {days}", x509::date(until));
            let warning = chain::warning(&chain, now);
            let state = match days {
                ..RENEWAL_DAYS => FindingStatus::Warn,
                _ if warning.is_some() => FindingStatus::Warn,
                _ => FindingStatus::Ok,
            };
            let seen = warning.map_or(seen.clone(), |warning| format!("{seen}; {warning}"));
            Some(Finding::new(state, file, seen))
        })
        .collect()
}

/// Checks that the CA answers with its directory. Its clock is compared with that of this machine.
async fn ca(acme: &Acme, resolver: Resolver) -> Finding {
    let what = format!("CA {}", acme.directory.url());
    let Ok(checked) = timeout(CA_TIMEOUT, check_ca(acme, resolver)).await else {
        let seen = format!(
            "no answer within {} s: allow connections to its port 443, and check acme.directory",
            CA_TIMEOUT.as_secs()
        );
        return Finding::new(FindingStatus::Fail, what, seen);
    };
    match checked {
        Ok(None) => Finding::new(FindingStatus::Ok, what, "answers"),
        Ok(Some(clock)) => {
            let seen = format!("answers, but {clock}: set the clock, or start NTP");
            Finding::new(FindingStatus::Warn, what, seen)
        }
        Err(error) => Finding::new(FindingStatus::Fail, what, ErrorChain(&error).to_string()),
    }
}

/// Checks every port, name and backend of the configuration, and the CA.
async fn check_network(config: &Config, progress: &ProgressDisplay) -> Vec<Finding> {
    let mut findings = Vec::new();
    let server = &config.server;
    let running = client::get(&server.admin.value, "/healthz", CHECK_TIMEOUT)
        .await
        .is_ok();
    let listeners = server.https.iter().chain(&server.http);
    let listeners = listeners.chain(&server.cleartext);
    let mut ports: Vec<SocketAddr> = listeners.map(|listen| listen.value.0).collect();
    ports.extend(server.metrics.as_ref().map(|metrics| metrics.value));
    if let AdminAddress::Tcp(address) = server.admin.value {
        ports.push(address);
    }
    findings.extend(ports.into_iter().map(|address| port(address, running)));

    let resolver = Resolver::system();
    if let Some(acme) = &config.acme {
        progress.step("checking the CA".to_owned());
        findings.push(ca(acme, resolver.clone()).await);
    }
    let hosts: BTreeSet<&str> = config
        .routes
        .iter()
        .flat_map(|route| &route.hosts)
        .filter_map(|host| match host {
            HostPattern::Exact(host) => Some(&**host),
            HostPattern::Under(_) | HostPattern::Any => None,
        })
        .collect();
    for host in hosts {
        progress.step(format!("checking the name {host}"));
        findings.push(name(&resolver, host).await);
    }

    let direct = config.routes.iter().filter_map(|route| route.to.as_ref());
    let direct: Vec<Pool> = direct.map(Pool::of).collect();
    let pools = config.pools.values().map(|pool| &pool.value);
    // A map, so that each combination of address, source addresses and TLS settings is checked once.
    let backends: BTreeMap<(String, Vec<IpAddr>, String), Checked<'_>> = pools
        .chain(&direct)
        .flat_map(|pool| {
            let backends = pool.backends.iter();
            backends.map(|backend| (backend, pool.connect_timeout.0))
        })
        .map(|(backend, connect_timeout)| {
            let written = as_written(config, &backend.address, backend.at);
            let settings = format!("{:?} {:?}", backend.tls, backend.proxy_protocol);
            let checked = Checked {
                backend: &backend.value,
                connect_timeout,
            };
            ((written, backend.sources.clone(), settings), checked)
        })
        .collect();
    for ((written, ..), checked) in backends {
        progress.step(format!("checking the backend {written}"));
        match &checked.backend.address {
            BackendSource::One(address) => {
                findings.extend(reach(&resolver, &written, address, checked).await);
            }
            BackendSource::Dns(name) => {
                findings.extend(reach_all(&resolver, &written, name, checked).await);
            }
        }
    }
    findings
}

/// Returns the address as text, with http:// or https:// if the configuration has that instead of ws:// or wss://, so
/// that the user finds it.
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

/// Checks that the address can be bound. If it is in use, that is no problem while a lockgate answers on the admin
/// address (`running`).
fn port(address: SocketAddr, running: bool) -> Finding {
    let what = format!("port {address}");
    match listen::bind(address) {
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
    let addresses = match timeout(NAME_TIMEOUT, resolver.lookup(host)).await {
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
    if addresses
        .iter()
        .any(|address| TcpListener::bind((*address, 0)).is_ok())
    {
        Finding::new(
            FindingStatus::Ok,
            what,
            format!("resolves to {shown}, this machine"),
        )
    } else {
        Finding::new(
            FindingStatus::Warn,
            what,
            format!(
                "resolves to {shown}, which is not this machine; correct only behind a load balancer or NAT"
            ),
        )
    }
}

/// A backend with the setting of its pool.
#[derive(Debug, Clone, Copy)]
struct Checked<'a> {
    backend: &'a Backend,
    connect_timeout: Duration,
}

/// Checks that the backend at `address` accepts connections from each of its source addresses.
async fn reach(
    resolver: &Resolver,
    written: &str,
    address: &BackendAddress,
    checked: Checked<'_>,
) -> Vec<Finding> {
    let what = format!("backend {written}");
    let sources = &checked.backend.sources;
    if sources.is_empty() {
        return vec![reach_from(resolver, what, address, checked, &[]).await];
    }
    let each = sources.iter().map(async |from| {
        let what = format!("{what} from {from}");
        reach_from(resolver, what, address, checked, &[*from]).await
    });
    join_all(each).await
}

async fn reach_from(
    resolver: &Resolver,
    what: String,
    address: &BackendAddress,
    checked: Checked<'_>,
    from: &[IpAddr],
) -> Finding {
    let sources = SourceAddrs::new(from);
    let dialled = DialAddress::from(address);
    let (connected, silent) = join(
        connect(resolver, dialled, checked, &sources),
        silent_addresses(resolver, dialled, checked, &sources),
    )
    .await;
    match (connected, &silent[..]) {
        (Ok(seen), []) => Finding::new(FindingStatus::Ok, what, seen),
        (Ok(_), silent) => {
            let seen = format!(
                "accepts connections, but not at every address of its name, which delays some of them: {}",
                silent.join("; ")
            );
            Finding::new(FindingStatus::Warn, what, seen)
        }
        (Err(error), _) => {
            let seen = ErrorChain(&error).to_string();
            Finding::new(FindingStatus::Warn, what, seen)
        }
    }
}

/// Connects to each address of a name that has several; returns the errors of those that do not answer. A refusal is no
/// problem, because the next address is tried at once.
async fn silent_addresses(
    resolver: &Resolver,
    address: DialAddress<'_>,
    checked: Checked<'_>,
    sources: &SourceAddrs,
) -> Vec<String> {
    let DialAddress::Tcp { host, port } = address else {
        return Vec::new();
    };
    let Ok(Ok(ips)) = timeout(CHECK_TIMEOUT, resolver.lookup(host)).await else {
        return Vec::new();
    };
    if ips.len() < 2 {
        return Vec::new();
    }
    let each = ips.iter().take(MAX_ENDPOINTS).map(async |ip| {
        let host = ip.to_string();
        let address = DialAddress::Tcp { host: &host, port };
        let history = AddressHistory::default();
        let dialled = dial::dial(address, checked.options(resolver, sources, &history));
        let error = dialled.await.err()?;
        error.is_timeout().then(|| ErrorChain(&error).to_string())
    });
    join_all(each).await.into_iter().flatten().collect()
}

/// Connects as a session would, with the TLS handshake if TLS is used. Returns what was checked.
async fn connect(
    resolver: &Resolver,
    address: DialAddress<'_>,
    checked: Checked<'_>,
    sources: &SourceAddrs,
) -> Result<&'static str, DialError> {
    let Checked {
        backend,
        connect_timeout,
    } = checked;
    let history = AddressHistory::default();
    let dialled = dial::dial(address, checked.options(resolver, sources, &history));
    let limit = CHECK_TIMEOUT.saturating_add(connect_timeout);
    let dialled = timeout(limit, dialled).await;
    let mut stream = dialled.unwrap_or(Err(DialError::Late { after: limit }))?;
    // Errors in the files were reported by the build of the gateway.
    let Some(Ok(tls)) = member::tls_client_for(backend) else {
        return Ok("accepts connections");
    };
    if let Some(version) = member::proxy_version(backend.proxy_protocol) {
        stream.write_proxy_header(version, None).await?;
    }
    if let DialedStream::Tcp(tcp) = stream {
        tls.connect_tls_within(tcp, limit).await?;
    }
    Ok("accepts connections, and its certificate is trusted")
}

// === impl Checked ===

impl Checked<'_> {
    fn options<'a>(
        self,
        resolver: &'a Resolver,
        sources: &'a SourceAddrs,
        history: &'a AddressHistory,
    ) -> DialOptions<'a> {
        DialOptions {
            resolver,
            sources,
            history,
            permits: AttemptPermits::Unlimited,
            connect_timeout: self.connect_timeout,
        }
    }
}

/// Checks that the name has addresses in DNS, and that they accept connections.
async fn reach_all(
    resolver: &Resolver,
    written: &str,
    name: &DnsName,
    checked: Checked<'_>,
) -> Vec<Finding> {
    let found = match timeout(
        NAME_TIMEOUT,
        resolver.discover(name.into(), RESOLUTION_DELAY),
    )
    .await
    {
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
        let address = BackendAddress::from(place);
        let written = format!("{address}, of {written}");
        reach(resolver, &written, &address, checked).await
    });
    join_all(reached).await.into_iter().flatten().collect()
}

/// The timeout of each request of a check, and of a name's lookup.
const CHECK_TIMEOUT: Duration = Duration::from_secs(2);

/// The timeout of a name. With the defaults of resolv.conf(5), a DNS server that does not answer takes 5 s of it.
const NAME_TIMEOUT: Duration = Duration::from_secs(15);

/// The timeout of the request to the CA.
const CA_TIMEOUT: Duration = Duration::from_secs(10);

/// The recommended minimum: the usual default of 1024 is too small for production.
const RECOMMENDED_DESCRIPTORS: usize = 4096;

/// The number of days before expiry by which a certificate should have been renewed.
const RENEWAL_DAYS: i64 = 14;

/// In seconds.
const DAY: i64 = 24 * 60 * 60;

/// 2026-01-01, in Unix time: no release is older.
const RELEASE_DATE: Duration = Duration::from_secs(1_767_225_600);
