//! Another process in the place of this one: it is given everything that listens here, and what is open here is closed
//! one by one.

use super::{Server, drains::DrainPacing, stop::CLOSE_MARGIN};
use crate::{
    admin,
    lifecycle::{
        Command, ServerState, Signal,
        handover::{FdLabel, HandoverClaim, HandoverError, HandoverOffer, PassedFd, Successor},
        reexec, systemd,
    },
    observe::ErrorChain,
    tls::Acme,
};
use std::{future, io, os::fd::AsFd, pin::pin, process::id};
use tokio::{
    sync::{mpsc, oneshot},
    time::sleep,
};
use tokio_util::sync::{CancellationToken, DropGuard};
use tracing::{error, info, warn};

/// The offer that is open, if one is: at most one at a time.
#[derive(Debug, Default)]
pub(super) struct PendingHandover(Option<OpenOffer>);

#[derive(Debug)]
struct OpenOffer {
    came: oneshot::Receiver<Result<Successor, HandoverError>>,
    claim: HandoverClaim,
    /// Ends it.
    _closed: DropGuard,
}

// === impl PendingHandover ===

impl PendingHandover {
    /// What came of the offer; never without one.
    pub(super) async fn accepted(&mut self) -> Result<Successor, HandoverError> {
        let Some(open) = &mut self.0 else {
            return future::pending().await;
        };
        let came = (&mut open.came).await;
        self.0 = None;
        came.unwrap_or(Err(HandoverError::Timeout))
    }
}

// === impl Server ===

impl Server {
    /// Starts the program anew, which then comes and asks for an offer.
    pub(super) fn replace(&self) {
        if let Err(error) = reexec(&self.context.tasks) {
            error!(%error, "cannot start the program anew: this one goes on");
        }
    }

    /// Offers everything that listens here, and the lock of the certificates; the answer is where to come for it.
    pub(super) fn offer(&mut self) -> Result<String, String> {
        // One to which nobody has come is withdrawn: whoever asked for it may be gone.
        let open = self.handover.0.as_ref();
        if open.is_some_and(|open| !open.claim.take()) {
            return Err("another process is taking over just now; try again in ten seconds".into());
        }
        let opened = HandoverOffer::open().and_then(|offer| Ok((offer, self.inheritable_fds()?)));
        let (offer, given) =
            opened.map_err(|error| format!("cannot give away what listens here: {error}"))?;
        let name = offer.name().to_owned();
        let (tell, came) = oneshot::channel();
        let closed = CancellationToken::new();
        self.handover.0 = Some(OpenOffer {
            came,
            claim: offer.claim(),
            _closed: closed.clone().drop_guard(),
        });
        self.context.tasks.spawn(async move {
            let given = tokio::select! {
                given = offer.send_to_successor(given) => given,
                () = closed.cancelled() => return,
            };
            if let Err(Ok(successor)) = tell.send(given) {
                successor.refuse().await;
            }
        });
        Ok(name)
    }

    fn inheritable_fds(&self) -> io::Result<Vec<PassedFd>> {
        let label = |kind: &str, address: String| FdLabel {
            kind: kind.to_owned(),
            address,
        };
        let mut given = Vec::new();
        for listening in &self.listening {
            let (kind, address) = listening.written();
            given.push((
                label(kind, address),
                listening.socket().try_clone_to_owned()?,
            ));
        }
        let server = &self.plan.startup.server;
        for (kind, bound, address) in [
            ("admin", &self.admin, Some(admin::describe(&server.admin))),
            (
                "metrics",
                &self.metrics_listener,
                server.metrics.as_ref().map(|it| it.value.to_string()),
            ),
        ] {
            if let (Some(bound), Some(address)) = (bound, address) {
                given.push((label(kind, address), bound.as_fd().try_clone_to_owned()?));
            }
        }
        if let Some((place, lock)) = self.acme.as_ref().and_then(Acme::lock).transpose()? {
            given.push((label(Acme::LOCK, place), lock));
        }
        let given = given.into_iter();
        Ok(given
            .map(|(label, descriptor)| PassedFd { label, descriptor })
            .collect())
    }

    /// Whether another process serves from now on. If not, nothing has changed here.
    pub(super) async fn hand_over(&mut self, successor: Result<Successor, HandoverError>) -> bool {
        let served = match successor {
            Ok(successor) => successor.permit_serving().await.map(|()| successor),
            Err(error) => Err(error),
        };
        let successor = match served {
            Ok(successor) => successor,
            Err(error) => {
                let error = ErrorChain(&error);
                warn!(process = id(), %error, "the process that wanted to take over did not: this one goes on");
                return false;
            }
        };
        let (other, sessions) = (successor.id, self.context.metrics.sessions());
        systemd::main_process(other);
        successor.release().await;
        info!(
            process = id(),
            successor = other,
            sessions,
            "another process has taken over: the sessions here are closed one by one"
        );
        let drained = self.context.live.snapshot().drained();
        if !drained.is_empty() {
            warn!(drained = %drained.join(", "), "the other process does not know of `lockgate drain`: give the order again");
        }
        true
    }

    /// Whether everything that was open here ended by itself, told within `drain.window` or as `drain.max_rate` lengthens it;
    /// `None`: a signal came before.
    pub(super) async fn drain_after_handover(
        &mut self,
        signals: &mut impl AsyncFnMut() -> Signal,
        asked: &mut mpsc::Receiver<Command>,
    ) -> Option<bool> {
        let tasks = self.context.tasks.clone();
        tasks.stop();
        self.listening.clear();
        for bound in [self.admin.take(), self.metrics_listener.take()]
            .into_iter()
            .flatten()
        {
            bound.disown();
        }
        let drain = self.context.live.snapshot().drain.clone();
        let ends = self.plan.config.session.close_timeout.0 + CLOSE_MARGIN;
        let everybody = self.context.sessions.matching(|_| true);
        let spread = DrainPacing::of(&drain);
        // Who is on the way in has at least the time that all have.
        let told = spread.duration_for(everybody.len()).max(spread.window);
        self.drains.cancel();
        self.drains.close(everybody, spread, |_| true, &tasks);
        let mut all_told = pin!(sleep(told));
        let mut finish = pin!(tasks.finish(told + ends));
        let mut newcomers = true;
        loop {
            tokio::select! {
                clean = &mut finish => {
                    if clean {
                        info!(process = id(), "every session here has ended, and so does this process: the other one serves");
                    }
                    return Some(clean);
                }
                signal = signals() => if signal == Signal::Stop { return None },
                // Whoever had just connected to the admin listener.
                Some(command) = asked.recv() => self.handle_command(command, ServerState::Draining).await,
                () = &mut all_told, if newcomers => {
                    newcomers = false;
                    self.context.sessions.close_new_sessions(drain.code);
                    for session in self.context.sessions.matching(|_| true) {
                        session.close(drain.code);
                    }
                }
            }
        }
    }
}
