//! One session: two pumps in one task, and their timers. The rules of its end are in `ending`.

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

/// What a session is made of: two streams behind a finished handshake, and what came right behind it.
#[derive(Debug)]
pub struct SpliceLegs<C, B> {
    /// The stream to the client.
    pub client: C,
    /// Bytes the client sent behind its request.
    pub client_early: Bytes,
    /// The stream to the backend.
    pub backend: B,
    /// Bytes the backend sent behind its 101.
    pub backend_early: Bytes,
    /// Which reserved bits the extensions agreed on allow.
    pub reserved: RsvBits,
}

/// Relays frames between the legs until both are through, then takes leave of them: close_notify, FIN, and a moment
/// in which input is discarded, for a reset would destroy the Close on its way (RFC 6455 §7.1.1).
pub fn run<C: Transport, B: Transport>(
    legs: SpliceLegs<C, B>,
    limits: watch::Receiver<SessionLimits>,
    handle: SessionHandle,
    flow: Arc<SessionMetrics>,
) -> impl Future<Output = Outcome> {
    // Made outside the future, which would otherwise hold the legs twice: as they came, and in the session.
    let mut session = Splice::new(legs, limits, handle, flow);
    async move {
        let outcome = poll_fn(|cx| session.poll(cx)).await;
        // Boxed: it lives for a moment, and would otherwise be part of every idle session's memory.
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
    /// When data last moved, either way.
    active: Instant,
    backpressure: Backpressure,
    /// Its share of the chance in `max_age`.
    jitter: u8,
    ending: Option<ClosingState>,
    /// The ends of `up` and `down` that have been acted on.
    client_end_handled: (bool, bool),
    /// Which direction came first last time.
    up_first: bool,
    /// One timer for everything. While it is armed there is a calm ([`Session::is_calm`]), and the limits have not changed.
    alarm: LazyTimer,
}

// === impl Splice ===

impl<C: Transport, B: Transport> Splice<C, B> {
    fn new(
        mut legs: SpliceLegs<C, B>,
        mut limits: watch::Receiver<SessionLimits>,
        handle: SessionHandle,
        flow: Arc<SessionMetrics>,
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
            active: now,
            backpressure: Backpressure::new(flow),
            ending: None,
            client_end_handled: (false, false),
            up_first: false,
            alarm: LazyTimer::new(now),
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
            if !self.alarm.is_armed() && !self.arm(now) {
                return Poll::Pending;
            }
            // Where the deadline passed while we worked, look at the clock again.
            ready!(self.alarm.poll(cx));
        }
    }

    /// Does all that can be done now; what waits has registered for what it waits for.
    fn work(&mut self, cx: &mut Context<'_>, now: Instant) {
        // First: it registers for what may change, and what changed before is seen right after.
        let order = self.handle.order(cx.waker()).cloned();
        if self.limits_source.has_changed().unwrap_or(false) {
            let rate = self.limits.rate;
            self.limits = *self.limits_source.borrow_and_update();
            self.alarm.disarm();
            self.client.io.set_frame_bounds(&self.limits.bounds);
            if self.limits.rate != rate && self.ending.is_none() {
                self.to_backend.limit_rate(self.limits.rate, now);
            }
        }
        if self.handle.taps_changed() {
            let (looks, session) = (self.handle.taps(), self.handle.record());
            self.to_backend.set_taps(&looks, Role::Client, session);
            self.to_client.set_taps(&looks, Role::Server, session);
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
        // In turns: a torrent in one direction uses up the task's budget, and the other would never see any of it.
        self.up_first = !self.up_first;
        loop {
            let broken = (self.client.broken, self.backend.broken);
            let owed = self.backend.pending_pong.is_some();
            if self.up_first {
                self.pump_to_backend(cx, now);
                self.pump_to_client(cx, now);
            } else {
                self.pump_to_client(cx, now);
                self.pump_to_backend(cx, now);
            }
            // A leg that cannot be written to any more must be read out, and that direction may have had its turn.
            let broke = broken != (self.client.broken, self.backend.broken);
            let settled = self.handle_leg_ends(now);
            // The pump that takes our Pong along may have had its turn, too.
            let owes = !owed && self.backend.pending_pong.is_some();
            if !broke && !settled && !owes && !self.tick(now) {
                return;
            }
        }
    }

    // Pending or not: what a pump waits for, it has registered for.
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
        let (by, why, code) = match &self.ending {
            Some(ending) => (ending.by, ending.why, ending.code),
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

/// Takes leave of both legs at once; each is dropped as soon as it is through, which is what sends a reset.
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
