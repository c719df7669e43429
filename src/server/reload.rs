//! Another configuration in the place of the one in force: read and build, bind what is new, and only then change.

use super::{Server, drains::DrainPacing, listening::BoundListener, plan::BuildOutcome};
use crate::{
    gateway::Gateway,
    lifecycle::{Inherited, systemd},
    observe::{ErrorChain, SessionTarget},
};
use std::{path::PathBuf, sync::Arc};
use tokio::task::spawn_blocking;
use tracing::{error, info, warn};

// === impl Server ===

impl Server {
    /// Puts in force what the files say now. `Err` says why not; then nothing has changed.
    pub(super) async fn reload(&mut self) -> Result<String, String> {
        systemd::reloading();
        let (outcome, done) = match self.apply().await {
            Ok(Some(done)) => ("applied", Ok(done)),
            Ok(None) => ("unchanged", Ok("nothing has changed".to_owned())),
            Err((why, files)) => {
                error!("the configuration stays as it is, for the new one cannot be used:\n{why}");
                Arc::make_mut(&mut self.plan).refuse(&why, files);
                ("refused", Err(why))
            }
        };
        self.context.metrics.reload(outcome);
        systemd::ready(&self.in_words());
        done
    }

    /// What was written between the first reading and the first look at the files.
    pub(super) async fn catch_up(&mut self) {
        if !self.plan.has_file() {
            return;
        }
        let before = self.context.live.snapshot();
        if !matches!(self.read(before).await, BuildOutcome::Unchanged) {
            drop(self.reload().await);
        }
    }

    /// On a thread of its own: much takes long, a disk may hang, and sessions go on.
    async fn read(&self, before: Arc<Gateway>) -> BuildOutcome {
        let plan = self.plan.clone();
        let read = spawn_blocking(move || plan.read(&before, before.tls.issued.clone()));
        read.await.unwrap_or_else(|error| {
            BuildOutcome::Failed(
                format!("the files were not read to their end: {error}"),
                Vec::new(),
            )
        })
    }

    /// `None` where the files say the same as before.
    async fn apply(&mut self) -> Result<Option<String>, (String, Vec<PathBuf>)> {
        let before = self.context.live.snapshot();
        let (config, gateway) = match self.read(before.clone()).await {
            BuildOutcome::Unchanged => return Ok(None),
            BuildOutcome::Changed(config, gateway) => (config, Arc::new(*gateway)),
            BuildOutcome::Failed(why, files) => return Err((why, files)),
        };
        let added =
            BoundListener::bind_missing(&config.server, &self.listening, &mut Inherited::default());
        let added =
            added.map_err(|error| (ErrorChain(&error).to_string(), config.watched.clone()))?;

        // From here on nothing can fail. What both need is there before the change, and what one needs no more goes after.
        let issued = gateway.certificates.acme_names();
        if let Some(acme) = &self.acme {
            acme.apply(
                &before
                    .certificates
                    .acme_names()
                    .union(issued)
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
            acme.apply(issued);
        }
        self.watch_certificates();
        self.refresh_dns_tasks();
        self.watch_backends();
        self.rebalance_pools();
        self.listening.extend(added);
        self.listening.retain(|listening| {
            let stays = listening.is_configured(&config.server);
            if !stays {
                info!(address = %listening.address(), "no more connections are accepted there");
                listening.close();
            }
            stays
        });
        self.listen();
        let leaving = self
            .context
            .sessions
            .matching(|session| !gateway.may_keep(session));
        let closing = leaving.len();
        let spread = DrainPacing::of(&gateway.drain);
        let context = self.context.clone();
        // Whoever may stay after all, by a later reload, stays.
        let must_go = move |session: &SessionTarget| !context.live.snapshot().may_keep(session);
        self.drains
            .close(leaving, spread, must_go, &self.context.tasks);
        let restart = Arc::make_mut(&mut self.plan).replace(*config).join(", ");
        info!(closing, "a new configuration is in force");
        let mut done = match closing {
            0 => "a new configuration is in force".to_owned(),
            n => format!(
                "a new configuration is in force; {n} sessions are closed, for their route or backend is gone"
            ),
        };
        if !restart.is_empty() {
            warn!(keys = %restart, "these keys were changed and take a restart");
            done = format!("{done}; these keys take a restart: {restart}");
        }
        Ok(Some(done))
    }
}
