//! The relay loop: two legs, one task, frames relayed verbatim until an [`Outcome`].
//!
//! This module contains the relay and the session rules of RFC 6455 that it needs: which leg receives which Close,
//! liveness, back-pressure. The handshake that creates the legs is in `http`, and frame parsing is in `proto`.
//!
//! [`run`] is the entry. `session` has the task of a session; open it first, then `pump`, which relays one direction.

pub(crate) mod backpressure;
pub(crate) mod close;
pub(crate) mod deflate;
pub(crate) mod keepalive;
pub(crate) mod leg;
pub(crate) mod limits;
pub(crate) mod outcome;
pub(crate) mod pump;
pub(crate) mod rate_limit;
pub(crate) mod session;
pub(crate) mod tap;
pub(crate) mod timer;

use crate::{
    observe::metrics::families::SessionMetrics,
    registry::SessionHandle,
    splice::{
        close::lingering_close,
        leg::LegIo,
        limits::SessionLimits,
        outcome::Outcome,
        session::{Splice, SpliceLegs},
    },
};
use std::{future::poll_fn, sync::Arc};
use tokio::sync::watch;

/// Relays frames between the legs until both have finished, then performs a lingering close: close_notify, FIN, and
/// a short time in which input is discarded, because a reset would destroy a Close in flight (RFC 6455 §7.1.1).
pub fn run<C: LegIo, B: LegIo>(
    legs: SpliceLegs<C, B>,
    limits: watch::Receiver<SessionLimits>,
    handle: SessionHandle,
    metrics: Arc<SessionMetrics>,
) -> impl Future<Output = Outcome> {
    // Created outside the future, which would otherwise hold the legs twice: as arguments and in the session.
    let mut session = Splice::new(legs, limits, handle, metrics);
    async move {
        let outcome = poll_fn(|cx| session.poll(cx)).await;
        // Boxed: the lingering close is short-lived and would otherwise be part of every idle session's memory.
        Box::pin(linger_both(session)).await;
        outcome
    }
}

/// Performs the lingering close of both legs concurrently. Each leg is dropped as soon as it has finished; the drop
/// sends a pending reset.
async fn linger_both<C: LegIo, B: LegIo>(session: Splice<C, B>) {
    tokio::join!(
        lingering_close(
            session.client,
            session.to_client.is_blocked(),
            session.to_backend.ended
        ),
        lingering_close(
            session.backend,
            session.to_backend.is_blocked(),
            session.to_client.ended
        ),
    );
}

#[cfg(test)]
mod tests;
