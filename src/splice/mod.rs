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
use std::{
    future::poll_fn,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
};
use tokio::{sync::watch, time::Instant};

/// Relays frames between the legs until both have finished, then performs a lingering close: close_notify, FIN, and
/// a short time in which input is discarded, because a reset would destroy a Close in flight (RFC 6455 §7.1.1).
///
/// Calls `report` once with the outcome: at the end, or when the future is dropped, as at the end of the process.
pub fn run<C: LegIo, B: LegIo>(
    legs: SpliceLegs<C, B>,
    limits: watch::Receiver<SessionLimits>,
    handle: SessionHandle,
    metrics: Arc<SessionMetrics>,
    report: impl FnOnce(&Outcome),
) -> impl Future<Output = Outcome> {
    // Created outside the future, which would otherwise hold the legs twice: as arguments and in the session.
    let mut relay = Relay {
        phase: Phase::Relaying(Splice::new(legs, limits, handle, metrics)),
        report: Some(report),
    };
    async move {
        let outcome = poll_fn(|cx| relay.poll(cx)).await;
        if let Some(lingering) = relay.linger(outcome) {
            lingering.await;
        }
        drop(relay);
        outcome
    }
}

/// A session that reports its outcome on drop.
struct Relay<C: LegIo, B: LegIo, R: FnOnce(&Outcome)> {
    phase: Phase<C, B>,
    report: Option<R>,
}

#[expect(
    clippy::large_enum_variant,
    reason = "the session is part of its task's allocation; the other variant is short-lived"
)]
enum Phase<C, B> {
    Relaying(Splice<C, B>),
    Lingering(Outcome),
}

// === impl Relay ===

impl<C: LegIo, B: LegIo, R: FnOnce(&Outcome)> Relay<C, B, R> {
    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<Outcome> {
        match &mut self.phase {
            Phase::Relaying(session) => session.poll(cx),
            Phase::Lingering(outcome) => Poll::Ready(*outcome),
        }
    }

    /// Ends relaying, and returns the lingering close. It is boxed here, because the future of the session would
    /// otherwise hold the session twice, and because it is short-lived.
    fn linger(
        &mut self,
        outcome: Outcome,
    ) -> Option<Pin<Box<impl Future<Output = ()> + use<C, B, R>>>> {
        match std::mem::replace(&mut self.phase, Phase::Lingering(outcome)) {
            Phase::Relaying(session) => Some(Box::pin(linger_both(session))),
            Phase::Lingering(_) => None,
        }
    }
}

impl<C: LegIo, B: LegIo, R: FnOnce(&Outcome)> Drop for Relay<C, B, R> {
    fn drop(&mut self) {
        let outcome = match &self.phase {
            Phase::Relaying(session) => session.outcome(Instant::now()),
            Phase::Lingering(outcome) => *outcome,
        };
        if let Some(report) = self.report.take() {
            report(&outcome);
        }
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
