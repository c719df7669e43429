//! Takeover, in the running process: offers the listening sockets to the successor, and lets it serve.

use crate::{
    http::context::Context,
    lifecycle::{
        command::OfferError,
        handover::{HandoverClaim, HandoverError, HandoverOffer, PassedFd, Successor},
        process::reexec,
        systemd,
        tasks::Tasks,
    },
    observe::logging::ErrorChain,
};
use std::{future, io, process::id};
use tokio::sync::oneshot;
use tokio_util::sync::{CancellationToken, DropGuard};
use tracing::{error, info, warn};

/// The open offer; there is at most one. The exchange with the successor is a task, so that a successor that hangs does
/// not delay signals and commands.
#[derive(Debug, Default)]
pub(crate) struct PendingHandover(Option<OpenOffer>);

#[derive(Debug)]
struct OpenOffer {
    served: oneshot::Receiver<Result<Successor, HandoverError>>,
    claim: HandoverClaim,
    /// Ends the offer's task on drop.
    _closed: DropGuard,
}

// === impl PendingHandover ===

impl PendingHandover {
    /// Waits until the successor serves, or the takeover has failed. Without an open offer it never completes.
    /// Cancel-safe.
    pub(crate) async fn served(&mut self) -> Result<Successor, HandoverError> {
        let Some(open) = &mut self.0 else {
            return future::pending().await;
        };
        let served = (&mut open.served).await;
        self.0 = None;
        served.unwrap_or(Err(HandoverError::Withdrawn))
    }

    /// Offers `descriptors` to another process. Returns the name of the socket to which that process must connect.
    pub(crate) fn offer(
        &mut self,
        descriptors: impl FnOnce() -> io::Result<Vec<PassedFd>>,
        tasks: &Tasks,
    ) -> Result<String, OfferError> {
        // An offer to which no process has connected is withdrawn: the client that requested it may have exited.
        if self.0.as_ref().is_some_and(|open| !open.claim.take()) {
            return Err(OfferError::Pending);
        }
        let opened = HandoverOffer::open().and_then(|offer| Ok((offer, descriptors()?)));
        let (offer, descriptors) = opened.map_err(OfferError::Sockets)?;
        let name = offer.name().to_owned();
        let (sender, served) = oneshot::channel();
        let closed = CancellationToken::new();
        self.0 = Some(OpenOffer {
            served,
            claim: offer.claim(),
            _closed: closed.clone().drop_guard(),
        });
        tasks.spawn(async move {
            tokio::select! {
                // If the offer is withdrawn in the same moment, this process stops, and the successor serves alone.
                result = offer.hand_over(descriptors) => drop(sender.send(result)),
                () = closed.cancelled() => {}
            }
        });
        Ok(name)
    }

    /// Withdraws the open offer, if there is one.
    pub(crate) fn withdraw(&mut self) {
        self.0 = None;
    }
}

/// Starts a new process of the program, which then requests a takeover.
pub(crate) fn start_successor(tasks: &Tasks) {
    if let Err(error) = reexec(tasks) {
        error!(%error, "cannot start a new process; continuing to serve");
    }
}

/// Completes a takeover: returns whether the successor serves. If it does not, this process continues unchanged.
pub(crate) fn complete(context: &Context, successor: Result<Successor, HandoverError>) -> bool {
    let successor = match successor {
        Ok(successor) => successor,
        Err(error) => {
            let error = ErrorChain(&error);
            warn!(process = id(), %error, "takeover failed; continuing to serve");
            return false;
        }
    };
    let (successor_id, sessions) = (successor.id, context.metrics.sessions());
    systemd::main_process(successor_id);
    context.tasks.spawn(successor.release());
    let (process, successor) = (id(), successor_id);
    if sessions == 0 {
        info!(process, successor, "another process has taken over");
    } else {
        info!(
            process,
            successor, sessions, "another process has taken over; closing the sessions one by one"
        );
    }
    let drained = context.live.snapshot().drained();
    if !drained.is_empty() {
        warn!(drained = %drained.join(", "), "drains by `lockgate drain` do not pass to the other process; repeat them");
    }
    true
}
