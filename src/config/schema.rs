//! The shape of the file. Defaults stand here and nowhere else; each field's comment is its line in the reference.

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

/// A whole configuration: one file with its includes, or the flags of `lockgate run --to`.
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
    /// `[acme]`, if certificates are to be had by it.
    pub acme: Option<Acme>,
    /// `[session]`: the defaults of every route.
    pub session: Session,
    /// `[pools.NAME]`
    pub pools: BTreeMap<String, Located<Pool>>,
    /// `[[routes]]`, in the order written.
    pub routes: Vec<Located<Route>>,
    /// What was read, to point into.
    pub sources: Arc<[Source]>,
    /// The files it was read from, and the folders that its patterns look into.
    pub watched: Vec<PathBuf>,
    /// Where the sections begin.
    pub(super) sections: BTreeMap<&'static str, Location>,
}

// === impl Config ===

impl Config {
    /// Where a section begins, if it was written.
    pub fn place(&self, section: &str) -> Option<Location> {
        self.sections.get(section).copied()
    }
}

/// The configuration of Lockgate: one file, with those it includes.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub(super) struct File {
    /// Files that are read as if they stood here: paths or patterns such as "conf.d/*.toml", relative to this file.
    pub(super) include: Vec<Located<String>>,
    /// Where to listen, whom to believe, what to log.
    pub(super) server: Option<Located<Server>>,
    /// Connections, before anything is known of a route.
    pub(super) limits: Option<Located<Limits>>,
    /// A removed route or backend, and the stop: how sessions are closed.
    pub(super) drain: Option<Located<Drain>>,
    /// Certificates.
    pub(super) tls: Option<Located<Tls>>,
    /// Certificates by ACME (RFC 8555): with this section every routed host that has no other certificate gets one.
    pub(super) acme: Option<Located<Acme>>,
    /// WebSockets: the defaults of every route.
    pub(super) session: Option<Located<Session>>,
    /// Named sets of backends.
    pub(super) pools: BTreeMap<String, Located<Pool>>,
    /// Rules over host, path and handshake, each with a target. The most specific wins; ties go to the first.
    pub(super) routes: Vec<Located<Route>>,
}
