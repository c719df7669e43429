//! The configuration in force, how it is had again, and what changed between two.

use crate::{
    config::{Config, Problems},
    gateway::Gateway,
    lifecycle::ConfigStatus,
    tls::{DevCa, Issuers, Shelf},
};
use std::{fmt, path::PathBuf, sync::Arc, time::SystemTime};

/// How a configuration is read again.
#[derive(Default)]
pub struct Blueprint {
    /// Reads it; `None` where there is no file.
    pub load: Option<Box<dyn Fn() -> Result<Config, Problems> + Send + Sync>>,
    /// The development CA, where the first configuration wanted it.
    pub dev: Option<DevCa>,
}

/// The configuration in force.
#[derive(Debug)]
pub(super) struct Plan {
    pub(super) config: Config,
    blueprint: Blueprint,
    loaded: SystemTime,
    /// Why the last one that was read is not in force.
    error: Option<String>,
    /// Keys that were changed and wait for a restart.
    restart: Vec<&'static str>,
}

/// What came of reading again.
pub(super) enum Read {
    /// The same text as before.
    Unchanged,
    /// A gateway that can take the place of the one in force.
    Changed(Box<Config>, Box<Gateway>),
    /// Why not.
    Wrong(String),
}

// === impl Plan ===

impl Plan {
    pub(super) fn new(config: Config, blueprint: Blueprint) -> Self {
        Plan {
            config,
            blueprint,
            loaded: SystemTime::now(),
            error: None,
            restart: Vec::new(),
        }
    }

    /// What to watch.
    pub(super) fn files(&self) -> Vec<PathBuf> {
        match self.blueprint.load {
            Some(_) => self.config.watched.clone(),
            None => Vec::new(),
        }
    }

    /// Reads and builds; changes nothing.
    pub(super) fn read(&self, previous: &Gateway, shelf: Arc<Shelf>) -> Read {
        let Some(load) = &self.blueprint.load else {
            return Read::Wrong(
                "there is no configuration file: lockgate was started by flags alone".into(),
            );
        };
        let config = match load() {
            Ok(config) => config,
            Err(problems) => return Read::Wrong(problems.to_string()),
        };
        if config.sources == self.config.sources && self.error.is_none() {
            return Read::Unchanged;
        }
        let dev = self.blueprint.dev.as_ref().filter(|_| config.tls.dev_ca);
        match Gateway::build(&config, Some(previous), &Issuers { dev, shelf }) {
            Ok(gateway) => Read::Changed(Box::new(config), Box::new(gateway)),
            Err(problems) => Read::Wrong(problems.to_string()),
        }
    }

    /// `config` is in force now; tells which of its keys are not.
    pub(super) fn replace(&mut self, config: Config) -> &[&'static str] {
        for key in waiting(&self.config, &config, self.blueprint.dev.is_some()) {
            if !self.restart.contains(&key) {
                self.restart.push(key);
            }
        }
        self.config = config;
        self.loaded = SystemTime::now();
        self.error = None;
        &self.restart
    }

    /// What was read last is not in force.
    pub(super) fn refuse(&mut self, why: &str) {
        self.error = Some(why.to_owned());
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

impl fmt::Debug for Blueprint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let file = self.load.is_some();
        f.debug_struct("Blueprint")
            .field("file", &file)
            .finish_non_exhaustive()
    }
}

/// Keys whose change takes a restart: they made what lives as long as the process.
fn waiting(old: &Config, new: &Config, dev: bool) -> Vec<&'static str> {
    let (was, is) = (&old.server, &new.server);
    let (bound, bounds) = (&old.limits, &new.limits);
    let keys = [
        ("server.admin", was.admin.value != is.admin.value),
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
