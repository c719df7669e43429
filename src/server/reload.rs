//! Reload: reads and builds the new configuration on another thread, binds added listeners, and only then applies it.
//!
//! One build runs at a time. A reload that is requested during a build starts another one afterwards, because the build
//! may have read the files before they changed. A build has a deadline: a file on a hung mount does not keep a command
//! waiting, and the control loop never waits for a file.

use crate::{
    lifecycle::{
        command::{ReloadError, ReloadReport},
        systemd,
    },
    observe::logging::ErrorChain,
    registry::SessionTarget,
    server::{
        Server,
        active_config::{BuildOutcome, BuiltConfig, ConfigError, RejectedConfig, UNCHANGED},
        builds::{BuildEvent, BuildRequests, ReloadReply},
        deferred::DeferredReload,
        drain::DrainPacing,
        tasks::files::{ConfigEvent, ConfigWatch},
    },
    tls::{acme::OpenedHosts, certs::Certificates},
};
use std::sync::Arc;
use tracing::{error, info, warn};

/// The result of a reload that was not rejected.
enum Reloaded {
    Applied(ReloadReport),
    /// The configuration has not changed; the message for the user.
    Unchanged(String),
}

// === impl Server ===

impl Server {
    /// Reloads because of a change of files.
    pub(crate) fn reload_changed(&mut self, event: ConfigEvent) {
        self.request_build(BuildRequests {
            replies: Vec::new(),
            is_ordered: event == ConfigEvent::Changed,
            by_operator: false,
        });
    }

    /// Reloads by a signal or a command; `reply` receives the result. If a build is running, the reply is the result of
    /// the next one.
    pub(crate) fn reload(&mut self, reply: Option<ReloadReply>) {
        self.request_build(BuildRequests {
            replies: reply.into_iter().collect(),
            is_ordered: true,
            by_operator: true,
        });
    }

    /// Builds the configuration whose change would close sessions once more: it is applied if it is still the same.
    /// While a program writes one of its files, it waits longer.
    pub(crate) fn reload_deferred(&mut self, watch: &ConfigWatch) {
        if let Some(deferred) = self.deferred.as_mut().filter(|_| watch.is_being_written()) {
            return deferred.postpone();
        }
        self.request_build(BuildRequests {
            is_ordered: true,
            ..BuildRequests::default()
        });
    }

    fn request_build(&mut self, requests: BuildRequests) {
        if let Some(requests) = self.builds.request(requests) {
            self.start_build(requests);
        }
    }

    fn start_build(&mut self, requests: BuildRequests) {
        if requests.is_ordered {
            systemd::reloading();
        }
        let before = self.context.live.snapshot();
        let (active_config, acme) = (self.active_config.clone(), self.acme.clone());
        let is_ordered = requests.is_ordered;
        let reopen_log = self
            .context
            .access
            .reopen()
            .filter(|_| requests.by_operator);
        let build = move || {
            // Also if the configuration is rejected: log rotation depends on it.
            if let Some(reopen) = reopen_log {
                reopen();
            }
            match active_config.read(&before, acme.as_deref()) {
                BuildOutcome::Unchanged(_, watched) if is_ordered => {
                    let message = reload_certificates(&before.certificates);
                    BuildOutcome::Unchanged(message, watched)
                }
                outcome => outcome,
            }
        };
        self.builds.start(requests, build);
    }

    /// Applies the result of a build, sends the replies, and starts the next build if one is due.
    pub(crate) fn finish_build(&mut self, event: BuildEvent) {
        match event {
            BuildEvent::Finished(BuildOutcome::Changed(built), requests)
                if self.must_defer(&built, &requests) =>
            {
                if let Some(acme) = &self.acme {
                    acme.discard(built.acme_hosts);
                }
                systemd::ready(&self.listeners.summary());
            }
            BuildEvent::Finished(outcome, requests) => {
                self.deferred = None;
                let result = match outcome {
                    BuildOutcome::Unchanged(message, watched) => {
                        Arc::make_mut(&mut self.active_config).watch(watched);
                        Ok(Reloaded::Unchanged(message))
                    }
                    BuildOutcome::Changed(built) => self.apply(*built).map(Reloaded::Applied),
                    BuildOutcome::Rejected(rejected) => Err(rejected),
                };
                self.report(result, requests);
            }
            BuildEvent::TimedOut(exceeded, requests) => {
                let rejected = RejectedConfig {
                    error: ConfigError::Deadline(exceeded),
                    // The files of the current configuration are watched as before.
                    files: self.active_config.rejected_files().to_vec(),
                };
                self.report(Err(rejected), requests);
            }
            BuildEvent::FinishedLate(outcome, requests) => {
                if let (BuildOutcome::Changed(built), Some(acme)) = (outcome, &self.acme) {
                    acme.discard(built.acme_hosts);
                }
                info!(
                    "the file that blocked a reload can be read again; reloading the configuration"
                );
                self.request_build(BuildRequests {
                    is_ordered: true,
                    ..requests
                });
            }
        }
        if let Some(next) = self.builds.take_next() {
            self.start_build(next);
        }
    }

    /// Returns whether a change of files must not be applied yet: it would close sessions, and its writer may not have
    /// finished. It must be stable first.
    fn must_defer(&mut self, built: &BuiltConfig, requests: &BuildRequests) -> bool {
        if requests.by_operator {
            return false;
        }
        let (sessions, current) = (&self.context.sessions, self.context.live.snapshot());
        // Those that an earlier change closes are not counted again.
        let closing = sessions
            .matching(|session| current.may_keep(session) && !built.gateway.may_keep(session));
        if closing.is_empty() {
            return false;
        }
        let is_same =
            |deferred: &DeferredReload| deferred.is_of(&built.config.sources, &built.contents);
        match &mut self.deferred {
            Some(deferred) if is_same(deferred) => {
                // A build that began before the end of the time does not show that the files are stable.
                !deferred.take_is_due()
            }
            _ => {
                info!(
                    closing = closing.len(),
                    "the changed configuration would close sessions; waiting until its files are stable"
                );
                let (sources, contents) = (built.config.sources.clone(), built.contents.clone());
                self.deferred = Some(DeferredReload::new(sources, contents));
                true
            }
        }
    }

    /// Records and logs the result of a build.
    fn report(&mut self, result: Result<Reloaded, RejectedConfig>, requests: BuildRequests) {
        let is_known = match &result {
            Ok(reloaded) => matches!(reloaded, Reloaded::Unchanged(_)),
            Err(rejected) => self.active_config.has_error(&rejected.error),
        };
        if is_known && !requests.is_ordered {
            return;
        }
        let (outcome, result) = match result {
            Ok(Reloaded::Applied(report)) => ("applied", Ok(report.to_string())),
            Ok(Reloaded::Unchanged(message)) => ("unchanged", Ok(message)),
            Err(RejectedConfig { error, files }) => {
                error!(
                    "configuration reload rejected; keeping the current one:\n{}",
                    ErrorChain(&error)
                );
                Arc::make_mut(&mut self.active_config).reject(&error, files);
                ("refused", Err(ReloadError::Rejected(Arc::new(error))))
            }
        };
        self.context.metrics.count_reload(outcome);
        systemd::ready(&self.listeners.summary());
        requests.reply(&result);
    }

    /// Applies a configuration that was built.
    fn apply(&mut self, built: BuiltConfig) -> Result<ReloadReport, RejectedConfig> {
        let BuiltConfig {
            config,
            gateway,
            contents,
            acme_hosts,
        } = built;
        let (before, gateway) = (self.context.live.snapshot(), Arc::new(gateway));
        let added = self.listeners.bind_added(&config.server);
        let added = match added {
            Ok(added) => added,
            Err(error) => {
                if let Some(acme) = &self.acme {
                    acme.discard(acme_hosts);
                }
                return Err(RejectedConfig {
                    error: error.into(),
                    files: config.watched,
                });
            }
        };

        // From here on nothing can fail. ACME manages the names of both configurations until the new one is current.
        let acme_names = gateway.certificates.acme_names();
        if let Some(acme) = &self.acme {
            let names = before.certificates.acme_names().union(acme_names);
            acme.apply(&names.cloned().collect(), acme_hosts);
        }
        self.context.live.replace(gateway.clone());
        gateway.commit();
        gateway.start_guards(&self.context.auth);
        self.context
            .sessions
            .set_tappable_routes(gateway.tappable());
        self.context.sessions.wake_all();
        for name in before.certificates.expiries().into_keys() {
            self.context.metrics.remove_certificate(&name);
        }
        if let Some(acme) = &self.acme {
            acme.apply(acme_names, OpenedHosts::default());
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
            .replace(config, contents)
            .to_vec();
        info!(closing, "configuration applied");
        self.active_config.log_warnings();
        if !restart_keys.is_empty() {
            warn!(keys = %restart_keys.join(", "), "changed keys require a restart");
        }
        Ok(ReloadReport {
            closing,
            restart_keys,
        })
    }
}

/// Reads the certificate files again, as their watch does. Returns the message for an unchanged configuration: with new
/// certificates, and with unusable files, because of which a restart would fail. Blocks.
fn reload_certificates(certificates: &Certificates) -> String {
    let changes = certificates.reload(&certificates.files().into_iter().collect());
    let mut lines = vec![UNCHANGED.to_owned()];
    for change in changes {
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
