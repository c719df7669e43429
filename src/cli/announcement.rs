//! What `lockgate run` prints at startup besides the log: what is served, with which certificates, where the access log
//! is, and how to stop. On a terminal it also prints whether the backends accept connections.

use crate::{
    cli::output::eprint,
    config::{AdminAddress, BackendAddress, BackendSource, Config, LogFormat},
    net::{
        dial::{self, DialAddress, DialOptions, SourceAddrs},
        happy_eyeballs::{AddressHistory, AttemptPermits},
        resolver::Resolver,
    },
    observe::logging::ErrorChain,
};
use futures_util::future::join_all;
use std::{
    collections::BTreeSet,
    io::{self, IsTerminal},
    process,
    time::Duration,
};
use tracing::info;

/// What is printed about a configuration.
pub(crate) struct Announcement {
    format: LogFormat,
    hosts: Vec<String>,
    backends: Vec<BackendSource>,
    certificates: String,
    access: String,
    admin: AdminAddress,
}

// === impl Announcement ===

impl Announcement {
    pub(crate) fn of(config: &Config) -> Self {
        let hosts = config.routes.iter().flat_map(|route| &route.hosts);
        let hosts: BTreeSet<String> = hosts.map(ToString::to_string).collect();
        let pools = config.pools.values().flat_map(|pool| &pool.backends);
        let of_pools = pools.map(|backend| backend.address.clone());
        let routes = config.routes.iter().filter_map(|route| route.to.as_ref());
        let of_routes = routes.map(|to| to.value.clone());
        let mut backends: Vec<BackendSource> = Vec::new();
        for backend in of_pools.chain(of_routes) {
            if !backends.contains(&backend) {
                backends.push(backend);
            }
        }
        Announcement {
            format: config.server.log.format,
            hosts: hosts.into_iter().collect(),
            backends,
            certificates: certificates(config),
            access: config.server.access.to_string(),
            admin: config.server.admin.value.clone(),
        }
    }

    /// Prints it to stderr: as lines, or as an event if the log is for programs.
    pub(crate) fn print(&self) {
        let hosts = list(self.hosts.iter());
        let backends = list(self.backends.iter());
        let (certificates, access) = (&*self.certificates, &*self.access);
        match self.format {
            LogFormat::Json => info!(hosts, backends, certificates, access, "starting"),
            LogFormat::Text => {
                eprint(format_args!(
                    "  hosts: {hosts}; certificates: {certificates}"
                ));
                eprint(format_args!("  backends: {backends}"));
                let admin = match &self.admin {
                    AdminAddress::Off => "off".to_owned(),
                    admin => format!("{admin} (`lockgate status`)"),
                };
                eprint(format_args!(
                    "  log: stderr; access log: {access}; admin: {admin}"
                ));
                eprint(format_args!(
                    "  to stop: Ctrl-C or `kill {}`; open sessions are closed with 1001",
                    process::id()
                ));
            }
        }
    }

    /// Connects to the first backends, and prints the results. Does nothing unless stderr is a terminal: a service
    /// starts in any order with its backends, and health checks watch them.
    pub(crate) async fn report_backends(&self) {
        if self.format != LogFormat::Text || !io::stderr().is_terminal() {
            return;
        }
        let addresses = self.backends.iter().filter_map(|backend| match backend {
            BackendSource::One(address) => Some(address),
            BackendSource::Dns(_) => None,
        });
        let resolver = Resolver::system();
        let results = addresses.take(MAX_LISTED).map(|it| connect(&resolver, it));
        for line in join_all(results).await {
            eprint(format_args!("  {line}"));
        }
    }
}

/// Returns whether a backend accepts a connection.
async fn connect(resolver: &Resolver, address: &BackendAddress) -> String {
    let sources = SourceAddrs::new(&[]);
    let options = DialOptions {
        resolver,
        sources: &sources,
        history: &AddressHistory::default(),
        permits: AttemptPermits::Unlimited,
        connect_timeout: CONNECT_TIMEOUT,
    };
    match dial::dial(DialAddress::from(address), options).await {
        Ok(_) => format!("{address} accepts connections"),
        Err(error) => format!("{address}: {}", ErrorChain(&error)),
    }
}

/// Returns where the certificates come from.
fn certificates(config: &Config) -> String {
    let tls = &config.tls;
    let mut sources = Vec::new();
    match tls.certificates.len() {
        0 => {}
        count => sources.push(format!("{count} from files")),
    }
    if let Some(acme) = &config.acme {
        let storage = acme.storage.display();
        sources.push(format!("ACME ({}, in {storage})", acme.directory));
    }
    if tls.dev_ca {
        sources.push("development CA".to_owned());
    }
    if sources.is_empty() {
        "none".to_owned()
    } else {
        sources.join(", ")
    }
}

/// Returns the first items, and the number of the others.
fn list<T: ToString>(items: impl ExactSizeIterator<Item = T>) -> String {
    let more = items.len().saturating_sub(MAX_LISTED);
    let listed: Vec<String> = items
        .take(MAX_LISTED)
        .map(|item| item.to_string())
        .collect();
    match more {
        0 => listed.join(", "),
        more => format!("{}, and {more} more", listed.join(", ")),
    }
}

/// The maximum number of hosts and backends that are listed.
const MAX_LISTED: usize = 8;

/// Longer than a backend on the same network needs.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(2);
