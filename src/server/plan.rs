//! The configuration in force, how it is had again, and what changed between two.

use crate::{
    config::{Config, Diagnostics},
    gateway::Gateway,
    lifecycle::ConfigStatus,
    tls::{CertIssuers, DevCa, IssuedCerts},
};
use std::{
    collections::BTreeSet,
    fmt,
    path::{Path, PathBuf},
    sync::Arc,
    time::SystemTime,
};

/// How a configuration is read again.
#[derive(Default)]
pub struct ConfigSource {
    /// Reads it; `None` where there is no file.
    pub load: Option<Box<dyn Fn() -> Result<Config, Diagnostics> + Send + Sync>>,
    /// The development CA, where the first configuration wanted it.
    pub dev: Option<DevCa>,
}

/// The configuration in force.
#[derive(Debug, Clone)]
pub(super) struct ActiveConfig {
    pub(super) config: Config,
    blueprint: Arc<ConfigSource>,
    loaded: SystemTime,
    /// Why the last one that was read is not in force.
    error: Option<String>,
    /// Keys that differ from those that the process was started with.
    restart: Vec<&'static str>,
    /// What it was started with.
    pub(super) startup: Config,
    /// What is in the files that it names and that are part of it (`named`).
    contents: Vec<Option<Vec<u8>>>,
    /// Files of the configuration that was refused.
    refused: Vec<PathBuf>,
}

/// What came of reading again.
pub(super) enum BuildOutcome {
    /// The same text as before.
    Unchanged,
    /// A gateway that can take the place of the one in force.
    Changed(Box<Config>, Box<Gateway>),
    /// Why not, and in which files.
    Failed(String, Vec<PathBuf>),
}

// === impl ActiveConfig ===

impl ActiveConfig {
    pub(super) fn new(config: Config, blueprint: ConfigSource) -> Self {
        ActiveConfig {
            startup: config.clone(),
            contents: contents(&config),
            refused: Vec::new(),
            config,
            blueprint: Arc::new(blueprint),
            loaded: SystemTime::now(),
            error: None,
            restart: Vec::new(),
        }
    }

    /// Whether there is a file to read again.
    pub(super) fn has_file(&self) -> bool {
        self.blueprint.load.is_some()
    }

    /// What to watch.
    pub(super) fn files(&self) -> Vec<PathBuf> {
        match self.blueprint.load {
            Some(_) => {
                let files = self.config.watched.iter().chain(&self.refused);
                let files: BTreeSet<&PathBuf> = files.chain(named(&self.config)).collect();
                files.into_iter().cloned().collect()
            }
            None => Vec::new(),
        }
    }

    /// Reads and builds; changes nothing.
    pub(super) fn read(&self, previous: &Gateway, issued: Arc<IssuedCerts>) -> BuildOutcome {
        let Some(load) = &self.blueprint.load else {
            let why = "there is no configuration file: lockgate was started by flags alone";
            return BuildOutcome::Failed(why.into(), Vec::new());
        };
        let mut config = match load() {
            Ok(config) => config,
            Err(problems) => return wrong(&problems),
        };
        let same = config.sources == self.config.sources && contents(&config) == self.contents;
        if same && self.error.is_none() {
            return BuildOutcome::Unchanged;
        }
        // What is to be had by ACME is had as it was at the start: hosts that would want more are told as problems.
        let acme = std::mem::replace(&mut config.acme, self.startup.acme.clone());
        let dev = self.blueprint.dev.as_ref().filter(|_| config.tls.dev_ca);
        match Gateway::build(&config, Some(previous), &CertIssuers { dev, issued }) {
            Ok(gateway) => {
                config.acme = acme;
                BuildOutcome::Changed(Box::new(config), Box::new(gateway))
            }
            Err(problems) => wrong(&problems),
        }
    }

    /// `config` is in force now; tells which of its keys are not.
    pub(super) fn replace(&mut self, config: Config) -> &[&'static str] {
        self.restart = restart_required(&self.startup, &config, self.blueprint.dev.is_some());
        self.contents = contents(&config);
        self.refused.clear();
        self.config = config;
        self.loaded = SystemTime::now();
        self.error = None;
        &self.restart
    }

    /// What was read last is not in force.
    pub(super) fn refuse(&mut self, why: &str, files: Vec<PathBuf>) {
        self.error = Some(why.to_owned());
        self.refused = files;
    }

    pub(super) fn status(&self) -> ConfigStatus {
        let file = self.config.sources.first();
        ConfigStatus {
            file: file.map(|source| source.path.display().to_string()),
            loaded: humantime::format_rfc3339_seconds(self.loaded).to_string(),
            error: self.error.clone(),
            needs_restart: self.restart.clone(),
        }
    }
}

impl fmt::Debug for ConfigSource {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let file = self.load.is_some();
        f.debug_struct("Blueprint")
            .field("file", &file)
            .finish_non_exhaustive()
    }
}

fn wrong(problems: &Diagnostics) -> BuildOutcome {
    let files = problems.files().map(Path::to_owned).collect();
    BuildOutcome::Failed(problems.to_string(), files)
}

/// Files that are read when a gateway is built and by nobody else: those of clients' CAs and of backends' TLS.
fn named(config: &Config) -> impl Iterator<Item = &PathBuf> {
    let client_ca = config.tls.client_ca.iter().map(|file| &file.value);
    let backends = config.pools.values().flat_map(|pool| &pool.backends);
    let tls = backends.flat_map(|it| [&it.tls.ca, &it.tls.cert, &it.tls.key]);
    client_ca.chain(tls.flatten())
}

fn contents(config: &Config) -> Vec<Option<Vec<u8>>> {
    named(config).map(|file| std::fs::read(file).ok()).collect()
}

/// Keys whose change takes a restart: they made what lives as long as the process.
fn restart_required(old: &Config, new: &Config, dev: bool) -> Vec<&'static str> {
    let (was, is) = (&old.server, &new.server);
    let (bound, bounds) = (&old.limits, &new.limits);
    let keys = [
        ("server.admin", was.admin.value != is.admin.value),
        ("server.admin_token", was.admin_token != is.admin_token),
        (
            "server.metrics",
            was.metrics.as_ref().map(|it| it.value) != is.metrics.as_ref().map(|it| it.value),
        ),
        ("server.access", was.access != is.access),
        ("server.log", was.log != is.log),
        (
            "limits.connections",
            bound.connections != bounds.connections,
        ),
        ("limits.sessions", bound.sessions != bounds.sessions),
        (
            "limits.connections_per_ip",
            bound.connections_per_ip != bounds.connections_per_ip,
        ),
        (
            "limits.accepts_per_ip",
            bound.accepts_per_ip != bounds.accepts_per_ip,
        ),
        ("acme", old.acme != new.acme),
        ("tls.dev_ca", new.tls.dev_ca && !old.tls.dev_ca && !dev),
    ];
    let changed = keys.into_iter().filter(|(_, changed)| *changed);
    changed.map(|(key, _)| key).collect()
}
