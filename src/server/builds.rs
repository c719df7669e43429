//! The builds of new configurations, on a blocking thread: at most one at a time.

use crate::{
    fs::deadline::{BlockingWork, DeadlineExceeded},
    lifecycle::command::ReloadError,
    server::active_config::{BuildOutcome, ConfigError},
};
use std::{future, sync::Arc, time::Duration};
use tokio::sync::oneshot;
use tracing::warn;

/// The sender of the reply to a reload command.
pub(crate) type ReloadReply = oneshot::Sender<Result<String, ReloadError>>;

/// The running build, and whether another one follows.
#[derive(Debug, Default)]
pub(crate) struct Builds {
    running: Option<RunningBuild>,
    /// The requests since the running build began.
    next: Option<BuildRequests>,
    /// Whether a build has started since [`Builds::take_has_started`].
    has_started: bool,
}

#[derive(Debug)]
struct RunningBuild {
    work: BlockingWork<BuildOutcome>,
    requests: BuildRequests,
    /// The deadline has passed, and the requests have their replies; what is left of them is their kind.
    is_late: bool,
}

/// The requests that one build fulfils.
#[derive(Debug, Default)]
pub(crate) struct BuildRequests {
    pub(crate) replies: Vec<ReloadReply>,
    /// False if the build only compares the files with the current configuration: then it leaves no trace if they are
    /// the same.
    pub(crate) is_ordered: bool,
    /// A signal or a command requested it. Its result is applied at once, and the access log is opened again.
    pub(crate) by_operator: bool,
}

/// An event of [`Builds`].
pub(crate) enum BuildEvent {
    /// A build has ended within its deadline.
    Finished(BuildOutcome, BuildRequests),
    /// The deadline of a build has passed.
    TimedOut(DeadlineExceeded, BuildRequests),
    /// A build has ended after its deadline. Its files must be read again, for requests of the same kind, which have
    /// their replies.
    FinishedLate(BuildOutcome, BuildRequests),
}

// === impl Builds ===

impl Builds {
    /// Waits for the next event. Without a running build it never completes. Cancel-safe.
    pub(crate) async fn event(&mut self) -> BuildEvent {
        let Some(running) = &mut self.running else {
            return future::pending().await;
        };
        let result = if running.is_late {
            running.work.late().await
        } else {
            match running.work.finished().await {
                Ok(result) => result,
                Err(exceeded) => {
                    running.is_late = true;
                    running.requests.add(self.next.take());
                    let requests = running.requests.split_replies();
                    return BuildEvent::TimedOut(exceeded, requests);
                }
            }
        };
        let outcome = result
            .unwrap_or_else(|error| BuildOutcome::Rejected(ConfigError::Aborted(error).into()));
        let is_late = running.is_late;
        let requests = std::mem::take(&mut running.requests);
        self.running = None;
        if is_late {
            BuildEvent::FinishedLate(outcome, requests)
        } else {
            BuildEvent::Finished(outcome, requests)
        }
    }

    /// Adds requests for a build. Returns them if that build must start now; otherwise they are fulfilled by the next
    /// build, or refused while a build hangs.
    pub(crate) fn request(&mut self, requests: BuildRequests) -> Option<BuildRequests> {
        match &self.running {
            None => return Some(requests),
            Some(running) if running.is_late => {
                // Another thread would hang as well. A build follows when this one has ended.
                let exceeded = running.work.exceeded();
                if requests.is_ordered {
                    warn!(reason = %exceeded, "configuration not reloaded; the previous reload is still reading a file");
                }
                requests.reply(&Err(ReloadError::Rejected(Arc::new(exceeded.clone()))));
            }
            Some(_) => {
                let next = self.next.get_or_insert_default();
                next.add(Some(requests));
                if next.replies.len() > MAX_WAITING
                    && let Some(newest) = next.replies.pop()
                {
                    let _ = newest.send(Err(ReloadError::TooManyWaiting));
                }
            }
        }
        None
    }

    /// Starts a build on a blocking thread.
    pub(crate) fn start(
        &mut self,
        requests: BuildRequests,
        build: impl FnOnce() -> BuildOutcome + Send + 'static,
    ) {
        self.has_started = true;
        self.running = Some(RunningBuild {
            work: BlockingWork::start(BUILD_TIMEOUT, build),
            requests,
            is_late: false,
        });
    }

    /// Returns whether a build, which reads the files, has started since the last call.
    pub(crate) fn take_has_started(&mut self) -> bool {
        std::mem::take(&mut self.has_started)
    }

    /// Returns the requests of the next build if it must start now.
    pub(crate) fn take_next(&mut self) -> Option<BuildRequests> {
        match self.running {
            Some(_) => None,
            None => self.next.take(),
        }
    }

    /// Returns whether a build runs whose result may be applied: what changes in the current gateway in the meantime
    /// would be lost.
    pub(crate) fn is_active(&self) -> bool {
        self.running
            .as_ref()
            .is_some_and(|running| !running.is_late)
    }

    /// Refuses the requests of all builds.
    pub(crate) fn cancel(&mut self) {
        let running = self.running.as_mut();
        let mut requests = running.map_or_else(BuildRequests::default, |running| {
            std::mem::take(&mut running.requests)
        });
        requests.add(self.next.take());
        requests.reply(&Err(ReloadError::Stopping));
    }
}

// === impl BuildRequests ===

impl BuildRequests {
    fn add(&mut self, more: Option<BuildRequests>) {
        let Some(more) = more else { return };
        // A client that has disconnected needs no reply.
        self.replies.retain(|reply| !reply.is_closed());
        self.replies.extend(more.replies);
        self.is_ordered |= more.is_ordered;
        self.by_operator |= more.by_operator;
    }

    /// Returns requests of the same kind with the replies, which these no longer have.
    fn split_replies(&mut self) -> BuildRequests {
        BuildRequests {
            replies: std::mem::take(&mut self.replies),
            ..*self
        }
    }

    /// Sends the result to all clients that wait for it.
    pub(crate) fn reply(self, result: &Result<String, ReloadError>) {
        for reply in self.replies {
            let _ = reply.send(result.clone());
        }
    }
}

/// The deadline of a build: long enough for some ten thousand certificates, and shorter than the reply deadline of the
/// admin API.
const BUILD_TIMEOUT: Duration = Duration::from_secs(25);

/// The maximum number of commands that wait for the same build.
const MAX_WAITING: usize = 64;
