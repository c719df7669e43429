//! Reload: reads and builds the new configuration, binds added listeners, and only then applies it.

use crate::{
    config::Watch,
    gateway::Gateway,
    lifecycle::{inherited::Inherited, systemd},
    observe::logging::ErrorChain,
    registry::SessionTarget,
    server::{Server, active_config::BuildOutcome, drain::DrainPacing, listeners::BoundListener},
    tls::certs,
};
use std::{path::PathBuf, sync::Arc};
use tokio::{sync::mpsc, task::spawn_blocking};
use tokio_util::sync::CancellationToken;
use tracing::{error, info, warn};

// === impl Server ===

impl Server {
    /// Reads the configuration again and applies it. `Err` contains the errors; then nothing has changed.
    pub(crate) async fn reload(&mut self) -> Result<String, String> {
        systemd::reloading();
        let (outcome, result) = match self.apply().await {
            Ok(Some(message)) => ("applied", Ok(message)),
            Ok(None) => ("unchanged", Ok("nothing has changed".to_owned())),
            Err((why, files)) => {
                error!("configuration reload rejected; keeping the current one:\n{why}");
                Arc::make_mut(&mut self.active_config).reject(&why, files);
                ("refused", Err(why))
            }
        };
        self.context.metrics.reload(outcome);
        systemd::ready(&self.listener_summary());
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
            BuildOutcome::Failed(
                format!("the configuration could not be read: {error}"),
                Vec::new(),
            )
        })
    }

    /// Reads and applies the configuration. Returns a message; `None`: the files have not changed.
    async fn apply(&mut self) -> Result<Option<String>, (String, Vec<PathBuf>)> {
        let before = self.context.live.snapshot();
        let (config, gateway) = match self.read(before.clone()).await {
            BuildOutcome::Unchanged => return Ok(None),
            BuildOutcome::Changed(config, gateway) => (config, Arc::new(*gateway)),
            BuildOutcome::Failed(why, files) => return Err((why, files)),
        };
        let added =
            BoundListener::bind_missing(&config.server, &self.listeners, &mut Inherited::default());
        let added =
            added.map_err(|error| (ErrorChain(&error).to_string(), config.watched.clone()))?;

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
        self.watch_certificates();
        self.refresh_dns_tasks();
        self.watch_backends();
        self.rebalance_pools();
        self.listeners.extend(added);
        self.listeners.retain(|listener| {
            let stays = listener.is_configured(&config.server);
            if !stays {
                info!(address = %listener.address(), "listener closed");
                listener.close();
            }
            stays
        });
        self.listen();
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

// Watches files for changes: those of the configuration, and those of the current certificates.

// === impl Server ===

impl Server {
    /// Spawns a task that reports changes of these files. A separate task, because the receiver's `select!` cancels its wait
    /// often.
    pub(crate) fn watch_config(&self, files: &[PathBuf]) -> mpsc::Receiver<()> {
        let (sender, changes) = mpsc::channel(1);
        let mut watch = Watch::new(files.to_vec());
        let tasks = self.context.tasks.clone();
        self.context.tasks.spawn(async move {
            loop {
                tokio::select! {
                    _ = watch.changed() => {}
                    () = sender.closed() => return,
                    () = tasks.stopping() => return,
                }
                // If the queue is full, a notification is already pending.
                let _ = sender.try_send(());
            }
        });
        changes
    }

    /// Spawns a task that reads the files of the current certificates again when they change. It replaces the previous task.
    pub(crate) fn watch_certificates(&mut self) {
        self.certificate_watch.cancel();
        self.certificate_watch = CancellationToken::new();
        let certificates = self.context.live.snapshot().certificates.clone();
        let watch = certs::watch_files(certificates, self.context.metrics.clone());
        let (cancelled, tasks) = (self.certificate_watch.clone(), self.context.tasks.clone());
        self.context.tasks.spawn(async move {
            tokio::select! {
                () = watch => {}
                () = cancelled.cancelled() => {}
                () = tasks.stopping() => {}
            }
        });
    }
}
