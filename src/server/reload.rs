//! Reload: reads and builds the new configuration, binds added listeners, and only then applies it.

use crate::{
    gateway::Gateway,
    lifecycle::{
        command::{ReloadError, ReloadReport},
        systemd,
    },
    observe::logging::ErrorChain,
    registry::SessionTarget,
    server::{
        Server,
        active_config::{BuildOutcome, RejectedConfig},
        drain::DrainPacing,
    },
};
use std::sync::Arc;
use tokio::task::spawn_blocking;
use tracing::{error, info, warn};

// === impl Server ===

impl Server {
    /// Reads the configuration again and applies it. `Err` contains the errors; then nothing has changed.
    pub(crate) async fn reload(&mut self) -> Result<String, ReloadError> {
        systemd::reloading();
        let (outcome, result) = match self.apply().await {
            Ok(Some(message)) => ("applied", Ok(message)),
            Ok(None) => ("unchanged", Ok("nothing has changed".to_owned())),
            Err(rejected) => {
                error!("configuration reload rejected; keeping the current one:\n{rejected}");
                let error = ReloadError::Rejected(rejected.why.clone());
                Arc::make_mut(&mut self.active_config).reject(rejected);
                ("refused", Err(error))
            }
        };
        self.context.metrics.count_reload(outcome);
        systemd::ready(&self.listeners.summary());
        result
    }

    /// Reloads if the files have changed between startup and the start of the watch.
    pub(crate) async fn catch_up(&mut self) {
        if !self.active_config.has_file() {
            return;
        }
        let before = self.context.live.snapshot();
        if !matches!(self.read(before).await, BuildOutcome::Unchanged) {
            drop(self.reload().await);
        }
    }

    /// Reads and builds on a blocking thread, because a large configuration takes long and a disk may hang.
    async fn read(&self, before: Arc<Gateway>) -> BuildOutcome {
        let active_config = self.active_config.clone();
        let outcome =
            spawn_blocking(move || active_config.read(&before, before.tls.issued.clone()));
        outcome.await.unwrap_or_else(|error| {
            BuildOutcome::Rejected(RejectedConfig {
                why: format!("the configuration could not be read: {error}"),
                files: Vec::new(),
            })
        })
    }

    /// Reads and applies the configuration. Returns a message; `None`: the files have not changed.
    async fn apply(&mut self) -> Result<Option<String>, RejectedConfig> {
        let before = self.context.live.snapshot();
        let (config, gateway) = match self.read(before.clone()).await {
            BuildOutcome::Unchanged => return Ok(None),
            BuildOutcome::Changed(config, gateway) => (config, Arc::new(*gateway)),
            BuildOutcome::Rejected(rejected) => return Err(rejected),
        };
        let added = self.listeners.bind_added(&config.server);
        let added = added.map_err(|error| RejectedConfig {
            why: ErrorChain(&error).to_string(),
            files: config.watched.clone(),
        })?;

        // From here on nothing can fail. ACME manages the names of both configurations until the new one is current.
        let acme_names = gateway.certificates.acme_names();
        if let Some(acme) = &self.acme {
            acme.apply(
                &before
                    .certificates
                    .acme_names()
                    .union(acme_names)
                    .cloned()
                    .collect(),
            );
        }
        self.context.live.replace(gateway.clone());
        gateway.commit();
        self.context
            .sessions
            .set_tappable_routes(gateway.tappable());
        self.context.sessions.wake_all();
        for name in before.certificates.expiries().into_keys() {
            self.context.metrics.remove_certificate(&name);
        }
        if let Some(acme) = &self.acme {
            acme.apply(acme_names);
        }
        self.refresh_tasks();
        self.listeners.replace(added, &config.server);
        self.start_listeners();
        let leaving = self
            .context
            .sessions
            .matching(|session| !gateway.may_keep(session));
        let closing = leaving.len();
        let pacing = DrainPacing::of(&gateway.drain);
        let context = self.context.clone();
        // A session that a later reload permits again stays open.
        let must_close = move |session: &SessionTarget| !context.live.snapshot().may_keep(session);
        self.drains
            .close(leaving, pacing, must_close, &self.context.tasks);
        let restart_keys = Arc::make_mut(&mut self.active_config)
            .replace(*config)
            .to_vec();
        info!(closing, "configuration applied");
        if !restart_keys.is_empty() {
            warn!(keys = %restart_keys.join(", "), "changed keys require a restart");
        }
        let report = ReloadReport {
            closing,
            restart_keys,
        };
        Ok(Some(report.to_string()))
    }
}
