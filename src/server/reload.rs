//! Another configuration in the place of the one in force: read and build, bind what is new, and only then change.

use super::{Server, drains::Spread, listening::Listening, plan::Read};
use crate::{lifecycle::systemd, observe::Causes};
use std::sync::Arc;
use tracing::{error, info, warn};

// === impl Server ===

impl Server {
    /// Puts in force what the files say now. `Err` says why not; then nothing has changed.
    pub(super) fn reload(&mut self) -> Result<String, String> {
        systemd::reloading();
        let (outcome, done) = match self.exchange() {
            Ok(Some(done)) => ("applied", Ok(done)),
            Ok(None) => ("unchanged", Ok("nothing has changed".to_owned())),
            Err(why) => {
                error!("the configuration stays as it is, for the new one cannot be used:\n{why}");
                self.plan.refuse(&why);
                ("refused", Err(why))
            }
        };
        self.context.metrics.reload(outcome);
        systemd::ready(&self.in_words());
        done
    }

    /// `None` where the files say the same as before.
    fn exchange(&mut self) -> Result<Option<String>, String> {
        let before = self.context.live.snapshot();
        let read =
            tokio::task::block_in_place(|| self.plan.read(&before, before.tls.shelf.clone()));
        let (config, gateway) = match read {
            Read::Unchanged => return Ok(None),
            Read::Changed(config, gateway) => (config, Arc::new(*gateway)),
            Read::Wrong(why) => return Err(why),
        };
        let added = Listening::missing(&config.server, &self.listening);
        let added = added.map_err(|error| Causes(&error).to_string())?;

        // From here on nothing can fail.
        self.context.live.replace(gateway.clone());
        gateway.commit();
        self.context.sessions.stir();
        for name in before.certificates.expiries().into_keys() {
            self.context.metrics.certificate_gone(&name);
        }
        if let Some(acme) = &self.acme {
            acme.apply(gateway.certificates.issued());
        }
        self.watch_certificates();
        self.listening.extend(added);
        self.listen();
        self.listening.retain(|listening| {
            let stays = listening.is_wanted(&config.server);
            if !stays {
                info!(address = %listening.address(), "no more connections are accepted there");
                listening.close();
            }
            stays
        });
        let leaving = self
            .context
            .sessions
            .belonging(|session| !gateway.keeps(session));
        let closing = leaving.len();
        let spread = Spread::of(&gateway.drain);
        self.drains.close(leaving, spread, &self.context.tasks);
        let restart = self.plan.replace(*config).join(", ");
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
