//! The current configuration, how it is read again, and which changed keys require a restart.

use crate::{
    config::{Config, Diagnostics, WatchedPath},
    fs::{self, deadline::DeadlineExceeded},
    gateway::Gateway,
    lifecycle::command::ConfigStatus,
    observe::logging::ErrorChain,
    server::listeners::StartError,
    tls::{
        acme::{Acme, OpenedHosts},
        certs::CertIssuers,
        dev::DevCa,
    },
};
use std::{collections::BTreeSet, fmt, path::PathBuf, sync::Arc, time::SystemTime};
use tokio::task::JoinError;
use tracing::warn;

/// The source from which a configuration is read again.
#[derive(Default)]
pub struct ConfigSource {
    /// Reads the configuration; `None` if there is no file.
    pub load: Option<Box<dyn Fn() -> Result<Config, Diagnostics> + Send + Sync>>,
    /// The development CA, if the configuration at startup has `tls.dev_ca`.
    pub dev: Option<DevCa>,
    /// The contents of the files that the configuration at startup names.
    pub contents: NamedContents,
}

/// The contents of the files that only the build of a gateway reads; `None`: unreadable.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct NamedContents(Vec<Option<Vec<u8>>>);

/// The current configuration, its source and the result of the last reload.
#[derive(Debug, Clone)]
pub(crate) struct ActiveConfig {
    pub(crate) config: Config,
    source: Arc<ConfigSource>,
    loaded: SystemTime,
    /// Why the last configuration that was read was rejected.
    error: Option<String>,
    /// Keys that differ from the startup configuration and require a restart.
    restart_keys: Vec<&'static str>,
    /// The configuration at startup.
    pub(crate) startup: Config,
    /// The contents of the files that the configuration names.
    contents: NamedContents,
    /// Files of the rejected configuration.
    rejected_files: Vec<WatchedPath>,
}

/// What the watch over the configuration depends on; it starts again when this changes.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Watched {
    pub(crate) files: Vec<WatchedPath>,
    /// The error of the last rejected configuration. A watch reports differences from the files as it has read them: it
    /// must have read the rejected ones to report that the previous ones are back.
    error: Option<String>,
}

/// The result of reading the configuration again.
#[derive(Debug)]
pub(crate) enum BuildOutcome {
    /// The files have not changed: the message for the user, and what to watch, which may have new directories.
    Unchanged(String, Vec<WatchedPath>),
    /// A gateway that can replace the current one.
    Changed(Box<BuiltConfig>),
    /// The current gateway stays.
    Rejected(RejectedConfig),
}

/// A configuration that can replace the current one.
#[derive(Debug)]
pub(crate) struct BuiltConfig {
    pub(crate) config: Config,
    pub(crate) gateway: Gateway,
    pub(crate) contents: NamedContents,
    /// The hosts that ACME does not manage yet.
    pub(crate) acme_hosts: OpenedHosts,
}

/// A configuration that cannot be applied.
#[derive(Debug)]
pub(crate) struct RejectedConfig {
    pub(crate) error: ConfigError,
    /// The files that contain the errors.
    pub(crate) files: Vec<WatchedPath>,
}

/// Why a configuration cannot be applied.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ConfigError {
    #[error("there is no configuration file: lockgate was started by flags alone")]
    NoFile,
    /// Errors in the configuration, or in the files that it names.
    #[error(transparent)]
    Invalid(Diagnostics),
    #[error("the configuration could not be read")]
    Aborted(#[source] JoinError),
    #[error(transparent)]
    Deadline(DeadlineExceeded),
    /// An added listener cannot be bound.
    #[error(transparent)]
    Listener(#[from] StartError),
}

// === impl ActiveConfig ===

impl ActiveConfig {
    pub(crate) fn new(config: Config, source: ConfigSource) -> Self {
        ActiveConfig {
            startup: config.clone(),
            contents: source.contents.clone(),
            rejected_files: Vec::new(),
            config,
            source: Arc::new(source),
            loaded: SystemTime::now(),
            error: None,
            restart_keys: Vec::new(),
        }
    }

    /// Returns what to watch.
    pub(crate) fn watched(&self) -> Watched {
        let files = match self.source.load {
            Some(_) => {
                let files = self.config.watched.iter().chain(&self.rejected_files);
                let named = named_files(&self.config).map(WatchedPath::from);
                let files: BTreeSet<WatchedPath> = files.cloned().chain(named).collect();
                files.into_iter().collect()
            }
            None => Vec::new(),
        };
        let error = self.error.clone();
        Watched { files, error }
    }

    /// Reads the configuration and builds its gateway, without applying either. May block.
    pub(crate) fn read(&self, previous: &Gateway, acme: Option<&Acme>) -> BuildOutcome {
        let Some(load) = &self.source.load else {
            return BuildOutcome::Rejected(ConfigError::NoFile.into());
        };
        let mut config = match load() {
            Ok(config) => config,
            Err(diagnostics) => return BuildOutcome::Rejected(diagnostics.into()),
        };
        let contents = NamedContents::read(&config);
        let unchanged = config.sources == self.config.sources && contents == self.contents;
        if unchanged && self.error.is_none() {
            return BuildOutcome::Unchanged(UNCHANGED.to_owned(), config.watched);
        }
        // The ACME settings of the startup are in use until a restart: the build reports hosts that they do not cover.
        let configured = std::mem::replace(&mut config.acme, self.startup.acme.clone());
        let issued = previous.tls.issued.clone();
        let dev = self.source.dev.as_ref().filter(|_| config.tls.dev_ca);
        match Gateway::build(&config, Some(previous), &CertIssuers { dev, issued }) {
            Ok(gateway) => {
                config.acme = configured;
                let names = gateway.certificates.acme_names();
                BuildOutcome::Changed(Box::new(BuiltConfig {
                    acme_hosts: acme.map(|acme| acme.open_hosts(names)).unwrap_or_default(),
                    config,
                    gateway,
                    contents,
                }))
            }
            Err(diagnostics) => BuildOutcome::Rejected(diagnostics.into()),
        }
    }

    /// Makes `config` the current configuration. Returns its changed keys that require a restart.
    pub(crate) fn replace(&mut self, config: Config, contents: NamedContents) -> &[&'static str] {
        self.restart_keys = restart_keys(&self.startup, &config, self.source.dev.is_some());
        self.contents = contents;
        self.rejected_files.clear();
        self.config = config;
        self.loaded = SystemTime::now();
        self.error = None;
        &self.restart_keys
    }

    /// Logs the warnings of the current configuration, if it has any.
    pub(crate) fn log_warnings(&self) {
        let warnings = &self.config.warnings;
        if !warnings.list.is_empty() {
            let count = warnings.list.len();
            warn!(count, "the configuration has warnings:\n{warnings}");
        }
    }

    /// Replaces what to watch for the current configuration.
    pub(crate) fn watch(&mut self, watched: Vec<WatchedPath>) {
        self.config.watched = watched;
    }

    /// Returns whether the last configuration was rejected for this reason.
    pub(crate) fn has_error(&self, error: &ConfigError) -> bool {
        self.error == Some(ErrorChain(error).to_string())
    }

    /// Returns the files of the last rejected configuration.
    pub(crate) fn rejected_files(&self) -> &[WatchedPath] {
        &self.rejected_files
    }

    /// Records that the last configuration that was read was rejected.
    pub(crate) fn reject(&mut self, error: &ConfigError, files: Vec<WatchedPath>) {
        self.error = Some(ErrorChain(error).to_string());
        self.rejected_files = files;
    }

    /// Returns the status as `lockgate status` displays it.
    pub(crate) fn status(&self) -> ConfigStatus {
        let file = self.config.sources.first();
        ConfigStatus {
            file: file.map(|source| source.path.display().to_string()),
            loaded: humantime::format_rfc3339_seconds(self.loaded).to_string(),
            error: self.error.clone(),
            needs_restart: self.restart_keys.clone(),
        }
    }
}

// === impl NamedContents ===

impl NamedContents {
    /// Reads the files. May block.
    pub fn read(config: &Config) -> NamedContents {
        let files = named_files(config);
        NamedContents(
            files
                .map(|file| fs::read(&file, MAX_FILE_LEN).ok())
                .collect(),
        )
    }
}

impl fmt::Debug for ConfigSource {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let file = self.load.is_some();
        f.debug_struct("ConfigSource")
            .field("file", &file)
            .finish_non_exhaustive()
    }
}

// === impl RejectedConfig ===

impl From<Diagnostics> for RejectedConfig {
    fn from(diagnostics: Diagnostics) -> Self {
        let files = diagnostics.files().map(|file| file.to_owned().into());
        RejectedConfig {
            files: files.collect(),
            error: ConfigError::Invalid(diagnostics),
        }
    }
}

/// An error that is in no file.
impl From<ConfigError> for RejectedConfig {
    fn from(error: ConfigError) -> Self {
        RejectedConfig {
            error,
            files: Vec::new(),
        }
    }
}

/// Returns the files that only the build of a gateway reads: the CAs of client certificates, the TLS files of backends,
/// and the files of guards.
fn named_files(config: &Config) -> impl Iterator<Item = PathBuf> {
    let client_ca = config.tls.client_ca.iter().map(|file| &file.value);
    let backends = config.pools.values().flat_map(|pool| &pool.backends);
    let tls = backends.flat_map(|it| [&it.tls.ca, &it.tls.cert, &it.tls.key]);
    let guards = config.guards.values().flat_map(|guard| guard.files());
    client_ca.chain(tls.flatten()).cloned().chain(guards)
}

/// Returns the changed keys that require a restart, because they are used at startup only.
fn restart_keys(old: &Config, new: &Config, dev: bool) -> Vec<&'static str> {
    let (old_server, new_server) = (&old.server, &new.server);
    let (old_limits, new_limits) = (&old.limits, &new.limits);
    let keys = [
        (
            "server.admin",
            old_server.admin.value != new_server.admin.value,
        ),
        (
            "server.admin_token",
            old_server.admin_token != new_server.admin_token,
        ),
        (
            "server.metrics",
            old_server.metrics.as_ref().map(|it| it.value)
                != new_server.metrics.as_ref().map(|it| it.value),
        ),
        ("server.access", old_server.access != new_server.access),
        ("server.log", old_server.log != new_server.log),
        (
            "limits.connections",
            old_limits.connections != new_limits.connections,
        ),
        (
            "limits.sessions",
            old_limits.sessions != new_limits.sessions,
        ),
        (
            "limits.accepts_per_ip",
            old_limits.accepts_per_ip != new_limits.accepts_per_ip,
        ),
        ("acme", old.acme != new.acme),
        ("tls.dev_ca", new.tls.dev_ca && !old.tls.dev_ca && !dev),
    ];
    let changed = keys.into_iter().filter(|(_, changed)| *changed);
    changed.map(|(key, _)| key).collect()
}

/// The limit of a PEM file (`net/pem.rs`); a larger one is an error of the build.
const MAX_FILE_LEN: u64 = 1 << 20;

/// The message of a reload that has found no change.
pub(crate) const UNCHANGED: &str = "nothing has changed";

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{key_examples::examples, schema::applies::Applies};

    /// Each key of the schema is changed from its default to its example.
    #[test]
    fn changed_key_requires_a_restart_exactly_if_the_schema_states_it() {
        let mut faults = Vec::new();
        let mut count = 0;
        for (key, configs) in examples() {
            let reported = restart_keys(&configs.before, &configs.after, false);
            let is_key = |name: &&str| {
                let rest = key.path.strip_prefix(*name);
                rest.is_some_and(|rest| rest.is_empty() || rest.starts_with('.'))
            };
            let stated = key.applies == Some(Applies::Restart);
            if reported.iter().any(is_key) != stated || !reported.iter().all(is_key) {
                let (path, applies) = (key.path, key.applies);
                faults.push(format!("{path}: {applies:?}, but {reported:?} is reported"));
            }
            count += usize::from(stated);
        }
        assert!(faults.is_empty(), "{}", faults.join("\n"));
        assert!(count >= 15, "only {count} keys require a restart");
    }
}
