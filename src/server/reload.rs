//! Reload: reads and builds the new configuration, binds added listeners, and only then applies it.

use crate::{
    gateway::Gateway,
    lifecycle::{command::ReloadError, systemd},
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
            Ok(None) => ("unchanged", Ok(self.reload_certificates().await)),
            Err(rejected) => {
                error!("configuration reload rejected; keeping the current one:\n{rejected}");
                let error = ReloadError::Rejected(rejected.why.clone());
                Arc::make_mut(&mut self.active_config).reject(rejected);
                ("refused", Err(error))
            }
        };
        self.context.metrics.reload(outcome);
        systemd::ready(&self.listeners.summary());
        result
    }

    /// Reads the certificate files again, as their watch does. Returns the message for an unchanged configuration: with
    /// new certificates, and with unusable files, because of which a restart would fail.
    async fn reload_certificates(&self) -> String {
        let certificates = self.context.live.snapshot().certificates.clone();
        let reloaded = certificates.clone();
        let read = spawn_blocking(move || {
            let files = reloaded.files().into_iter().collect();
            reloaded.reload(&files)
        });
        let mut lines = vec!["nothing has changed".to_owned()];
        for change in read.await.unwrap_or_default() {
            change.log();
            lines.extend(change.summary());
        }
        if lines.len() > 1 {
            lines[0] = "the configuration has not changed".to_owned();
        }
        for (file, error) in certificates.unusable_files() {
            lines.push(format!(
                "certificate {file}: {error}; the previous one is served"
            ));
        }
        lines.join("\n")
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
            .join(", ");
        info!(closing, "configuration applied");
        let mut message = match closing {
            0 => "configuration applied".to_owned(),
            n => format!(
                "configuration applied; closing {n} sessions whose route or backend was removed"
            ),
        };
        if !restart_keys.is_empty() {
            warn!(keys = %restart_keys, "changed keys require a restart");
            message = format!("{message}; these changed keys require a restart: {restart_keys}");
        }
        Ok(Some(message))
    }
}
