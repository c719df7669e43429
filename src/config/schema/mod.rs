//! The schema of the configuration file. All defaults are defined here; the comment of a field is its description in
//! the reference, and the attributes `x-…` are its facts (`applies.rs`).

pub(crate) mod applies;
pub(crate) mod guard;
pub(crate) mod pool;
pub(crate) mod route;
pub(crate) mod server;
pub(crate) mod session;
pub(crate) mod tls;

use crate::config::{
    diagnostic::{Diagnostics, Located, Location, Source},
    schema::{
        applies::Applies,
        guard::Guard,
        pool::Pool,
        route::Route,
        server::{Limits, Server, default},
        session::Session,
        tls::{Acme, Tls},
    },
    values::units::DurationValue,
    watch::path::WatchedPath,
};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use std::{collections::BTreeMap, sync::Arc};

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
    /// `[guards.NAME]`
    pub guards: BTreeMap<String, Located<Guard>>,
    /// `[[routes]]`, in the order written.
    pub routes: Vec<Located<Route>>,
    /// The files that were read; locations refer to them.
    pub sources: Arc<[Source]>,
    /// The files that were read, and the directories in which include patterns are matched.
    pub watched: Vec<WatchedPath>,
    /// Settings that are valid, but probably do not do what was meant.
    pub(crate) warnings: Diagnostics,
    /// Where each section begins.
    pub(crate) sections: BTreeMap<&'static str, Location>,
}

/// `[drain]`
#[derive(Debug, Clone, PartialEq, Deserialize, Serialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Drain {
    /// The time over which the closes of many sessions are spread. On shutdown all sessions end within this time.
    #[schemars(extend("x-applies" = Applies::AtOnce, "x-example" = "60s"))]
    #[schemars(extend("x-limit" = "on shutdown the sessions that are still open are cut"))]
    pub window: DurationValue,
    /// How long, after SIGTERM, /readyz reports not ready while connections are still accepted.
    #[schemars(extend("x-applies" = Applies::AtOnce, "x-example" = "5s"))]
    #[schemars(extend("x-limit" = "the listeners are closed, and the sessions are closed with 1001"))]
    pub accept_grace: DurationValue,
    /// The maximum number of closes per second. It lengthens the window, except on shutdown. 0: no limit.
    #[schemars(extend("x-applies" = Applies::AtOnce, "x-example" = 50))]
    #[schemars(extend("x-limit" = "further closes wait"))]
    pub max_rate: u32,
    /// The close code for clients of a removed route or backend (RFC 6455 §7.4.1); on shutdown it is 1001.
    #[schemars(extend("x-applies" = Applies::AtOnce, "x-example" = 1001))]
    pub code: u16,
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
pub(crate) struct File {
    /// Files that are read as part of this file: paths or patterns such as "conf.d/*.toml", relative to this file.
    #[schemars(extend("x-applies" = Applies::AtOnce, "x-example" = ["conf.d/*.toml"]))]
    pub(crate) include: Vec<Located<String>>,
    /// Listeners, trusted proxies and logs.
    pub(crate) server: Option<Located<Server>>,
    /// Limits of connections, before a route is chosen.
    pub(crate) limits: Option<Located<Limits>>,
    /// How sessions are closed: when a route or backend is removed, and on shutdown.
    pub(crate) drain: Option<Located<Drain>>,
    /// TLS versions and certificates.
    pub(crate) tls: Option<Located<Tls>>,
    /// Certificates by ACME (RFC 8555): with this section every routed host without another certificate gets one.
    pub(crate) acme: Option<Located<Acme>>,
    /// WebSockets: the defaults of every route.
    pub(crate) session: Option<Located<Session>>,
    /// Named sets of backends.
    pub(crate) pools: BTreeMap<String, Located<Pool>>,
    /// Named checks of who may open a session, and keep it. Routes list them.
    pub(crate) guards: BTreeMap<String, Located<Guard>>,
    /// Rules over host, path and handshake headers, each with a target. The most specific rule wins; of equal rules the first.
    pub(crate) routes: Vec<Located<Route>>,
}

// === impl Drain ===

impl Default for Drain {
    fn default() -> Self {
        Drain {
            window: default("20s"),
            accept_grace: default("0s"),
            max_rate: 0,
            code: 1012,
        }
    }
}
