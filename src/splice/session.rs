//! One session: two pumps in one task, and their timers. The rules of its end are in `ending`.

mod alarm;
mod clock;
mod ending;

use super::{
    Transport, Limits, Outcome, Side, Why, farewell::farewell, leg::Leg, pump::Pump, strain::Strains,
};
use crate::{
    observe::{SessionMetrics, SessionHandle},
    proto::track::{RsvBits, Role},
};
use alarm::Alarm;
use bytes::Bytes;
use ending::Ending;
use std::{
    future::poll_fn,
    sync::Arc,
    task::{Context, Poll, ready},
};
use tokio::{sync::watch, time::Instant};

/// What a session is made of: two streams behind a finished handshake, and what came right behind it.
#[derive(Debug)]
pub struct Legs<C, B> {
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
    legs: Legs<C, B>,
    limits: watch::Receiver<Limits>,
    handle: SessionHandle,
    flow: Arc<SessionMetrics>,
) -> impl Future<Output = Outcome> {
    // Made outside the future, which would otherwise hold the legs twice: as they came, and in the session.
    let mut session = Session::new(legs, limits, handle, flow);
    async move {
        let outcome = poll_fn(|cx| session.poll(cx)).await;
        // Boxed: it lives for a moment, and would otherwise be part of every idle session's memory.
        Box::pin(leave(session)).await;
        outcome
    }
}

struct Session<C, B> {
    client: Leg<C>,
    backend: Leg<B>,
    /// From the client to the backend.
    up: Pump,
    /// From the backend to the client.
    down: Pump,
    early: Option<(Bytes, Bytes)>,
    limits: Limits,
    limits_source: watch::Receiver<Limits>,
    handle: SessionHandle,
    opened: Instant,
    /// When data last moved, either way.
    active: Instant,
    strains: Strains,
    /// Its share of the chance in `max_age`.
    luck: u8,
    ending: Option<Ending>,
    /// The ends of `up` and `down` that have been acted on.
    settled: (bool, bool),
    /// Which direction came first last time.
    up_first: bool,
    /// One timer for everything. While it is armed there is a calm ([`Session::is_calm`]), and the limits have not changed.
    alarm: Alarm,
}

// === impl Session ===

impl<C: Transport, B: Transport> Session<C, B> {
    fn new(
        mut legs: Legs<C, B>,
        mut limits: watch::Receiver<Limits>,
        handle: SessionHandle,
        flow: Arc<SessionMetrics>,
    ) -> Self {
        let now = Instant::now();
        let current = *limits.borrow_and_update();
        let mut up = Pump::new(Role::Client, legs.reserved);
        up.limit_rate(current.rate, now);
        if legs.client.set_frame_bounds(&current.bounds) {
            up.leave_frames();
        }
        Session {
            client: Leg::new(legs.client, now),
            backend: Leg::new(legs.backend, now),
            up,
            down: Pump::new(Role::Server, legs.reserved),
            early: Some((legs.client_early, legs.backend_early)),
            limits: current,
            limits_source: limits,
            luck: handle.record().id as u8,
            handle,
            opened: now,
            active: now,
            strains: Strains::new(flow),
            ending: None,
            settled: (false, false),
            up_first: false,
            alarm: Alarm::new(now),
        }
    }

    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<Outcome> {
        loop {
            let now = Instant::now();
            self.work(cx, now);
            self.handle.publish(self.up.counts(), self.down.counts());
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
                self.up.limit_rate(self.limits.rate, now);
            }
        }
        if self.handle.taps_changed() {
            let (looks, session) = (self.handle.taps(), self.handle.record());
            self.up.show(&looks, Role::Client, session);
            self.down.show(&looks, Role::Server, session);
        }
        if let Some((client, backend)) = self.early.take() {
            let limits = self.limits;
            self.down.preload(
                cx,
                &backend,
                &mut self.backend,
                &mut self.client,
                &limits,
                now,
            );
            self.up.preload(
                cx,
                &client,
                &mut self.client,
                &mut self.backend,
                &limits,
                now,
            );
        }
        if let Some(order) = order {
            self.obey(Why::Ordered, order, now);
        }
        // In turns: a torrent in one direction uses up the task's budget, and the other would never see any of it.
        self.up_first = !self.up_first;
        loop {
            let broken = (self.client.broken, self.backend.broken);
            let owed = self.backend.pending_pong.is_some();
            if self.up_first {
                self.pump_up(cx, now);
                self.pump_down(cx, now);
            } else {
                self.pump_down(cx, now);
                self.pump_up(cx, now);
            }
            // A leg that cannot be written to any more must be read out, and that direction may have had its turn.
            let broke = broken != (self.client.broken, self.backend.broken);
            let settled = self.settle(now);
            // The pump that takes our Pong along may have had its turn, too.
            let owes = !owed && self.backend.pending_pong.is_some();
            if !broke && !settled && !owes && !self.tick(now) {
                return;
            }
        }
    }

    // Pending or not: what a pump waits for, it has registered for.
    fn pump_up(&mut self, cx: &mut Context<'_>, now: Instant) {
        let _ = self
            .up
            .poll(cx, &mut self.client, &mut self.backend, &self.limits, now);
    }

    fn pump_down(&mut self, cx: &mut Context<'_>, now: Instant) {
        let _ = self
            .down
            .poll(cx, &mut self.backend, &mut self.client, &self.limits, now);
    }

    fn outcome(&self, now: Instant) -> Outcome {
        let (by, why, code) = match &self.ending {
            Some(ending) => (ending.by, ending.why, ending.code),
            None => (Side::Lockgate, Why::Ordered, None),
        };
        let (from_client, from_backend) = (self.up.counts(), self.down.counts());
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
async fn leave<C: Transport, B: Transport>(session: Session<C, B>) {
    tokio::join!(
        farewell(session.client, session.down.is_stuck(), session.up.ended),
        farewell(session.backend, session.up.is_stuck(), session.down.ended),
    );
}
