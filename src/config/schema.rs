//! The schema of the configuration file. All defaults are defined here; the comment of a field is its line in the reference.

mod acme;
mod drain;
mod health;
mod pool;
mod route;
mod server;
mod session;
mod tls;

pub use acme::{Acme, Challenge, DnsHook, Eab, UntilIssued};
pub use drain::Drain;
pub use health::{AllDown, Check, Health, OnDown, Passive};
pub use pool::{
    Admission, Backend, BackendProxyProtocol, BackendTls, Balance, OnVanish, Pool, Retry, Sticky,
};
pub use route::{ClientCert, Framework, Only, Route, Token};
pub(super) use route::{UNNAMED, all_networks, every_path, same_host};
pub use server::{Limits, Log, LogFormat, LogLevel, ProxyProtocol, Server};
pub use session::{
    AnswerBackendPing, Compression, OverRate, Ping, PingLegs, PingOverrides, Session,
    SessionOverrides, SlowReader, SlowReaderOverrides,
};
pub use tls::{CertificateFiles, Tls, TlsVersion};

use super::{Located, Location, Source};
use schemars::JsonSchema;
use serde::Deserialize;
use std::{collections::BTreeMap, path::PathBuf, sync::Arc};

/// A complete configuration: one file with its includes, or the flags of `lockgate run --to`.
#[derive(Debug, Clone)]
pub struct Config {
    /// `[server]`
    pub server: Server,
    /// `[limits]`
    pub limits: Limits,
    /// `[drain]`
    pub drain: Drain,
    /// `[tls]`
    pub tls: Tls,
    /// `[acme]`, if certificates are obtained by ACME.
    pub acme: Option<Acme>,
    /// `[session]`: the defaults of every route.
    pub session: Session,
    /// `[pools.NAME]`
    pub pools: BTreeMap<String, Located<Pool>>,
    /// `[[routes]]`, in the order written.
    pub routes: Vec<Located<Route>>,
    /// The files that were read; locations refer to them.
    pub sources: Arc<[Source]>,
    /// The files that were read, and the directories in which include patterns are matched.
    pub watched: Vec<PathBuf>,
    /// Where each section begins.
    pub(super) sections: BTreeMap<&'static str, Location>,
}

// === impl Config ===

impl Config {
    /// Returns where a section begins, if it was written.
    pub fn place(&self, section: &str) -> Option<Location> {
        self.sections.get(section).copied()
    }
}

/// The configuration of Lockgate: one file with the files that it includes.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub(super) struct File {
    /// Files that are read as part of this file: paths or patterns such as "conf.d/*.toml", relative to this file.
    pub(super) include: Vec<Located<String>>,
    /// Listeners, trusted proxies and logs.
    pub(super) server: Option<Located<Server>>,
    /// Limits of connections, before a route is chosen.
    pub(super) limits: Option<Located<Limits>>,
    /// How sessions are closed: when a route or backend is removed, and on shutdown.
    pub(super) drain: Option<Located<Drain>>,
    /// TLS versions and certificates.
    pub(super) tls: Option<Located<Tls>>,
    /// Certificates by ACME (RFC 8555): with this section every routed host without another certificate gets one.
    pub(super) acme: Option<Located<Acme>>,
    /// WebSockets: the defaults of every route.
    pub(super) session: Option<Located<Session>>,
    /// Named sets of backends.
    pub(super) pools: BTreeMap<String, Located<Pool>>,
    /// Rules over host, path and handshake headers, each with a target. The most specific rule wins; of equal rules the first.
    pub(super) routes: Vec<Located<Route>>,
}
