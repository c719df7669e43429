//! One session: two pumps in one task, and their timers. The rules for closing it are in `ending`.

mod alarm;
mod clock;
mod ending;

use super::{
    EndReason, Initiator, Outcome, SessionLimits, Transport, farewell::lingering_close, leg::Leg,
    pump::Pump, strain::Backpressure,
};
use crate::{
    observe::{SessionHandle, SessionMetrics},
    proto::track::{Role, RsvBits},
};
use alarm::LazyTimer;
use bytes::Bytes;
use ending::ClosingState;
use std::{
    future::poll_fn,
    sync::Arc,
    task::{Context, Poll, ready},
};
use tokio::{sync::watch, time::Instant};

/// The parts of a session: two streams after a completed handshake, and the early data received with it.
#[derive(Debug)]
pub struct SpliceLegs<C, B> {
    /// The stream to the client.
    pub client: C,
    /// Bytes that the client sent directly after its request.
    pub client_early: Bytes,
    /// The stream to the backend.
    pub backend: B,
    /// Bytes that the backend sent directly after its 101.
    pub backend_early: Bytes,
    /// Reserved bits that the negotiated extensions allow.
    pub reserved: RsvBits,
}

/// Relays frames between the legs until both have finished, then performs a lingering close: close_notify, FIN, and
/// a short time in which input is discarded, because a reset would destroy a Close in flight (RFC 6455 §7.1.1).
pub fn run<C: Transport, B: Transport>(
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

struct Splice<C, B> {
    client: Leg<C>,
    backend: Leg<B>,
    /// From the client to the backend.
    to_backend: Pump,
    /// From the backend to the client.
    to_client: Pump,
    early: Option<(Bytes, Bytes)>,
    limits: SessionLimits,
    limits_source: watch::Receiver<SessionLimits>,
    handle: SessionHandle,
    opened: Instant,
    /// When data was last relayed in either direction.
    last_active: Instant,
    backpressure: Backpressure,
    /// This session's jitter for `max_age`.
    jitter: u8,
    closing: Option<ClosingState>,
    /// Whether the end of the client leg has been handled.
    client_end_handled: bool,
    backend_end_handled: bool,
    /// Whether `to_backend` is polled before `to_client`; this alternates.
    to_backend_first: bool,
    /// One timer for all deadlines. While it is armed, the session is quiescent ([`Splice::is_quiescent`]) and its
    /// limits are unchanged.
    timer: LazyTimer,
}

// === impl Splice ===

impl<C: Transport, B: Transport> Splice<C, B> {
    fn new(
        mut legs: SpliceLegs<C, B>,
        mut limits: watch::Receiver<SessionLimits>,
        handle: SessionHandle,
        metrics: Arc<SessionMetrics>,
    ) -> Self {
        let now = Instant::now();
        let current = *limits.borrow_and_update();
        let mut to_backend = Pump::new(Role::Client, legs.reserved);
        to_backend.limit_rate(current.rate, now);
        if legs.client.set_frame_bounds(&current.bounds) {
            to_backend.disable_frame_bounds();
        }
        Splice {
            client: Leg::new(legs.client, now),
            backend: Leg::new(legs.backend, now),
            to_backend,
            to_client: Pump::new(Role::Server, legs.reserved),
            early: Some((legs.client_early, legs.backend_early)),
            limits: current,
            limits_source: limits,
            jitter: handle.record().id as u8,
            handle,
            opened: now,
            last_active: now,
            backpressure: Backpressure::new(metrics),
            closing: None,
            client_end_handled: false,
            backend_end_handled: false,
            to_backend_first: false,
            timer: LazyTimer::new(now),
        }
    }

    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<Outcome> {
        loop {
            let now = Instant::now();
            self.work(cx, now);
            self.handle
                .publish(self.to_backend.counts(), self.to_client.counts());
            if self.is_over(now) {
                return Poll::Ready(self.outcome(now));
            }
            if !self.timer.is_armed() && !self.arm(now) {
                return Poll::Pending;
            }
            // If the deadline passed during the work, the loop reads the clock again.
            ready!(self.timer.poll(cx));
        }
    }

    /// Does all work that is possible now. Everything still pending has registered its waker.
    fn work(&mut self, cx: &mut Context<'_>, now: Instant) {
        // First, because it registers the waker: a change made before that is seen by the checks below.
        let order = self.handle.order(cx.waker()).cloned();
        if self.limits_source.has_changed().unwrap_or(false) {
            let rate = self.limits.rate;
            self.limits = *self.limits_source.borrow_and_update();
            self.timer.disarm();
            self.client.io.set_frame_bounds(&self.limits.bounds);
            if self.limits.rate != rate && self.closing.is_none() {
                self.to_backend.limit_rate(self.limits.rate, now);
            }
        }
        if self.handle.taps_changed() {
            let (taps, session) = (self.handle.taps(), self.handle.record());
            self.to_backend.set_taps(&taps, Role::Client, session);
            self.to_client.set_taps(&taps, Role::Server, session);
        }
        if let Some((client, backend)) = self.early.take() {
            let limits = self.limits;
            self.to_client.preload(
                cx,
                &backend,
                &mut self.backend,
                &mut self.client,
                &limits,
                now,
            );
            self.to_backend.preload(
                cx,
                &client,
                &mut self.client,
                &mut self.backend,
                &limits,
                now,
            );
        }
        if let Some(order) = order {
            self.close_on_order(EndReason::Ordered, order, now);
        }
        // The directions alternate: heavy traffic in one direction uses up the task's budget and would starve the
        // other.
        self.to_backend_first = !self.to_backend_first;
        loop {
            let broken = (self.client.broken, self.backend.broken);
            let had_pong = self.backend.pending_pong.is_some();
            if self.to_backend_first {
                self.pump_to_backend(cx, now);
                self.pump_to_client(cx, now);
            } else {
                self.pump_to_client(cx, now);
                self.pump_to_backend(cx, now);
            }
            // A leg that can no longer be written to must be read to its end, and that direction may have been polled
            // already.
            let newly_broken = broken != (self.client.broken, self.backend.broken);
            let leg_ended = self.handle_leg_ends(now);
            // The pump that writes our Pong may have been polled already, too.
            let pong_added = !had_pong && self.backend.pending_pong.is_some();
            if !newly_broken && !leg_ended && !pong_added && !self.tick(now) {
                return;
            }
        }
    }

    // The result does not matter: a pending pump has registered its waker.
    fn pump_to_backend(&mut self, cx: &mut Context<'_>, now: Instant) {
        let _ = self
            .to_backend
            .poll(cx, &mut self.client, &mut self.backend, &self.limits, now);
    }

    fn pump_to_client(&mut self, cx: &mut Context<'_>, now: Instant) {
        let _ = self
            .to_client
            .poll(cx, &mut self.backend, &mut self.client, &self.limits, now);
    }

    fn outcome(&self, now: Instant) -> Outcome {
        let (by, why, code) = match &self.closing {
            Some(closing) => (closing.by, closing.why, closing.code),
            None => (Initiator::Lockgate, EndReason::Ordered, None),
        };
        let (from_client, from_backend) = (self.to_backend.counts(), self.to_client.counts());
        Outcome {
            by,
            why,
            code,
            from_client,
            from_backend,
            ended: now,
        }
    }
}

/// Performs the lingering close of both legs concurrently. Each leg is dropped as soon as it has finished; the drop
/// sends a pending reset.
async fn linger_both<C: Transport, B: Transport>(session: Splice<C, B>) {
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
