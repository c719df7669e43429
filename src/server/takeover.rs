//! Takeover, in the running process: passes the listening sockets to the successor, then closes the sessions one by one.

use crate::{
    admin::listener,
    lifecycle::{
        command::{Command, ServerState},
        handover::{FdLabel, HandoverClaim, HandoverError, HandoverOffer, PassedFd, Successor},
        process::{Signal, reexec},
        systemd,
    },
    observe::logging::ErrorChain,
    server::{Server, drain::DrainPacing, stop::CLOSE_MARGIN},
    tls::acme::Acme,
};
use std::{future, io, os::fd::AsFd, pin::pin, process::id};
use tokio::{
    sync::{mpsc, oneshot},
    time::sleep,
};
use tokio_util::sync::{CancellationToken, DropGuard};
use tracing::{error, info, warn};

/// The open offer; there is at most one.
#[derive(Debug, Default)]
pub(crate) struct PendingHandover(Option<OpenOffer>);

#[derive(Debug)]
struct OpenOffer {
    accepted: oneshot::Receiver<Result<Successor, HandoverError>>,
    claim: HandoverClaim,
    /// Ends the offer's task on drop.
    _closed: DropGuard,
}

// === impl PendingHandover ===

impl PendingHandover {
    /// Waits until the successor is ready to serve, or the offer has failed. Without an open offer it never completes.
    pub(crate) async fn accepted(&mut self) -> Result<Successor, HandoverError> {
        let Some(open) = &mut self.0 else {
            return future::pending().await;
        };
        let accepted = (&mut open.accepted).await;
        self.0 = None;
        accepted.unwrap_or(Err(HandoverError::Timeout))
    }
}

// === impl Server ===

impl Server {
    /// Starts a new process of the program, which then requests a takeover.
    pub(crate) fn replace(&self) {
        if let Err(error) = reexec(&self.context.tasks) {
            error!(%error, "cannot start a new process; continuing to serve");
        }
    }

    /// Offers the listening sockets and the lock of the certificate store to another process. Returns the name of the socket
    /// to which that process must connect.
    pub(crate) fn offer(&mut self) -> Result<String, String> {
        // An offer to which no process has connected is withdrawn: the client that requested it may have exited.
        let open = self.handover.0.as_ref();
        if open.is_some_and(|open| !open.claim.take()) {
            return Err("another process is taking over; try again in ten seconds".into());
        }
        let opened = HandoverOffer::open().and_then(|offer| Ok((offer, self.inheritable_fds()?)));
        let (offer, descriptors) =
            opened.map_err(|error| format!("cannot pass on the listening sockets: {error}"))?;
        let name = offer.name().to_owned();
        let (sender, accepted) = oneshot::channel();
        let closed = CancellationToken::new();
        self.handover.0 = Some(OpenOffer {
            accepted,
            claim: offer.claim(),
            _closed: closed.clone().drop_guard(),
        });
        self.context.tasks.spawn(async move {
            let result = tokio::select! {
                result = offer.send_to_successor(descriptors) => result,
                () = closed.cancelled() => return,
            };
            if let Err(Ok(successor)) = sender.send(result) {
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
        let mut descriptors = Vec::new();
        for listener in &self.listeners {
            let (kind, address) = listener.configured();
            descriptors.push((
                label(kind, address),
                listener.socket().try_clone_to_owned()?,
            ));
        }
        let server = &self.active_config.startup.server;
        for (kind, bound, address) in [
            (
                "admin",
                &self.admin,
                Some(listener::describe(&server.admin)),
            ),
            (
                "metrics",
                &self.metrics_listener,
                server.metrics.as_ref().map(|it| it.value.to_string()),
            ),
        ] {
            if let (Some(bound), Some(address)) = (bound, address) {
                descriptors.push((label(kind, address), bound.as_fd().try_clone_to_owned()?));
            }
        }
        if let Some((store, lock)) = self.acme.as_ref().and_then(Acme::lock).transpose()? {
            descriptors.push((label(Acme::LOCK, store), lock));
        }
        Ok(descriptors
            .into_iter()
            .map(|(label, descriptor)| PassedFd { label, descriptor })
            .collect())
    }

    /// Lets the successor serve, and returns whether it does. If it does not, this process continues unchanged.
    pub(crate) async fn hand_over(&mut self, successor: Result<Successor, HandoverError>) -> bool {
        let served = match successor {
            Ok(successor) => successor.permit_serving().await.map(|()| successor),
            Err(error) => Err(error),
        };
        let successor = match served {
            Ok(successor) => successor,
            Err(error) => {
                let error = ErrorChain(&error);
                warn!(process = id(), %error, "takeover failed; continuing to serve");
                return false;
            }
        };
        let (successor_id, sessions) = (successor.id, self.context.metrics.sessions());
        systemd::main_process(successor_id);
        successor.release().await;
        info!(
            process = id(),
            successor = successor_id,
            sessions,
            "another process has taken over; closing the sessions one by one"
        );
        let drained = self.context.live.snapshot().drained();
        if !drained.is_empty() {
            warn!(drained = %drained.join(", "), "drains by `lockgate drain` do not pass to the other process; repeat them");
        }
        true
    }

    /// Closes all sessions with `drain.code`, spread over `drain.window`, or over more if `drain.max_rate` requires it.
    /// Returns whether all connections and sessions ended in time; `None`: [`Signal::Stop`] was received before.
    pub(crate) async fn drain_after_handover(
        &mut self,
        signals: &mut impl AsyncFnMut() -> Signal,
        command_queue: &mut mpsc::Receiver<Command>,
    ) -> Option<bool> {
        let tasks = self.context.tasks.clone();
        tasks.stop();
        self.listeners.clear();
        for bound in [self.admin.take(), self.metrics_listener.take()]
            .into_iter()
            .flatten()
        {
            bound.disown();
        }
        let drain = self.context.live.snapshot().drain.clone();
        let close_time = self.active_config.config.session.close_timeout.0 + CLOSE_MARGIN;
        let all_sessions = self.context.sessions.matching(|_| true);
        let pacing = DrainPacing::of(&drain);
        // Requests and handshakes in progress have the full window, even if there are few sessions.
        let pacing_time = pacing.duration_for(all_sessions.len()).max(pacing.window);
        self.drains.cancel();
        self.drains.close(all_sessions, pacing, |_| true, &tasks);
        let mut pacing_end = pin!(sleep(pacing_time));
        let mut finish = pin!(tasks.finish(pacing_time + close_time));
        let mut may_open_sessions = true;
        loop {
            tokio::select! {
                clean = &mut finish => {
                    if clean {
                        info!(process = id(), "every session has ended; exiting after the takeover");
                    }
                    return Some(clean);
                }
                signal = signals() => if signal == Signal::Stop { return None },
                // A client may have connected to the admin listener before it was passed on.
                Some(command) = command_queue.recv() => self.handle_command(command, ServerState::Draining).await,
                () = &mut pacing_end, if may_open_sessions => {
                    may_open_sessions = false;
                    self.context.sessions.close_new_sessions(drain.code);
                    for session in self.context.sessions.matching(|_| true) {
                        session.close(drain.code);
                    }
                }
            }
        }
    }
}
