//! Takeover, in the running process: offers the listening sockets to the successor, and lets it serve.

use crate::{
    http::context::Context,
    lifecycle::{
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

    /// Offers `descriptors` to another process. Returns the name of the socket to which that process must connect.
    pub(crate) fn offer(
        &mut self,
        descriptors: impl FnOnce() -> io::Result<Vec<PassedFd>>,
        tasks: &Tasks,
    ) -> Result<String, String> {
        // An offer to which no process has connected is withdrawn: the client that requested it may have exited.
        if self.0.as_ref().is_some_and(|open| !open.claim.take()) {
            return Err("another process is taking over; try again in ten seconds".into());
        }
        let opened = HandoverOffer::open().and_then(|offer| Ok((offer, descriptors()?)));
        let (offer, descriptors) =
            opened.map_err(|error| format!("cannot pass on the listening sockets: {error}"))?;
        let name = offer.name().to_owned();
        let (sender, accepted) = oneshot::channel();
        let closed = CancellationToken::new();
        self.0 = Some(OpenOffer {
            accepted,
            claim: offer.claim(),
            _closed: closed.clone().drop_guard(),
        });
        tasks.spawn(async move {
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

/// Lets the successor serve, and returns whether it does. If it does not, this process continues unchanged.
pub(crate) async fn hand_over(
    context: &Context,
    successor: Result<Successor, HandoverError>,
) -> bool {
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
    let (successor_id, sessions) = (successor.id, context.metrics.sessions());
    systemd::main_process(successor_id);
    successor.release().await;
    info!(
        process = id(),
        successor = successor_id,
        sessions,
        "another process has taken over; closing the sessions one by one"
    );
    let drained = context.live.snapshot().drained();
    if !drained.is_empty() {
        warn!(drained = %drained.join(", "), "drains by `lockgate drain` do not pass to the other process; repeat them");
    }
    true
}
