//! One session: two pumps in one task, and the rules that depend on time (liveness, age, idleness, slow readers), which
//! share one timer. The rules for closing it are in `close`.

use crate::{
    observe::metrics::families::SessionMetrics,
    proto::{
        frame::GOING_AWAY,
        frame_tracker::{Role, RsvBits},
    },
    registry::{CloseOrder, SessionHandle, traffic::LegSide},
    splice::{
        backpressure::{Backpressure, LegBackpressure, PendingOutput},
        keepalive::PingPolicy,
        leg::{Leg, LegIo},
        limits::SessionLimits,
        outcome::{EndReason, Initiator, Outcome},
        pump::{LegEnd, Pump},
        timer::LazyTimer,
    },
};
use bytes::Bytes;
use std::{
    sync::Arc,
    task::{Context, Poll, ready},
    time::Duration,
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

/// A running session: two legs, two pumps and the state for closing it.
pub(crate) struct Splice<C, B> {
    pub(crate) client: Leg<C>,
    pub(crate) backend: Leg<B>,
    /// From the client to the backend.
    pub(crate) to_backend: Pump,
    /// From the backend to the client.
    pub(crate) to_client: Pump,
    early: Option<(Bytes, Bytes)>,
    pub(crate) limits: SessionLimits,
    limits_source: watch::Receiver<SessionLimits>,
    handle: SessionHandle,
    opened: Instant,
    /// When data was last relayed in either direction.
    last_active: Instant,
    backpressure: Backpressure,
    /// This session's jitter for `max_age`.
    jitter: u8,
    pub(crate) closing: Option<ClosingState>,
    /// Whether the end of the client leg has been handled.
    pub(crate) client_end_handled: bool,
    pub(crate) backend_end_handled: bool,
    /// Whether `to_backend` is polled before `to_client`; this alternates.
    to_backend_first: bool,
    /// One timer for all deadlines. While it is armed, the session is quiescent ([`Splice::is_quiescent`]) and its
    /// limits are unchanged.
    timer: LazyTimer,
}

/// The first reason to end, and the deadline of the closing handshake.
pub(crate) struct ClosingState {
    pub(crate) by: Initiator,
    pub(crate) why: EndReason,
    pub(crate) code: Option<u16>,
    pub(crate) deadline: Instant,
}

// === impl Splice ===

impl<C: LegIo, B: LegIo> Splice<C, B> {
    /// Creates a session; it relays nothing until it is polled.
    pub(crate) fn new(
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

    /// Relays frames until the session has ended.
    pub(crate) fn poll(&mut self, cx: &mut Context<'_>) -> Poll<Outcome> {
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
            self.to_backend.set_taps(&taps, LegSide::Client, session);
            self.to_client.set_taps(&taps, LegSide::Backend, session);
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
            self.close_on_order(order.cause.into(), order, now);
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
            if !newly_broken && !leg_ended && !pong_added && !self.tick(cx, now) {
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

    /// Returns the outcome of a session that ends now.
    pub(crate) fn outcome(&self, now: Instant) -> Outcome {
        let (by, why, code) = match &self.closing {
            Some(closing) => (closing.by, closing.why, closing.code),
            None => (Initiator::Lockgate, EndReason::Ordered, None),
        };
        let (from_client, from_backend) = (self.to_backend.counts(), self.to_client.counts());
        let refused_pong = self.to_backend.refused_pong || self.to_client.refused_pong;
        Outcome {
            by,
            why,
            code,
            hint: Outcome::hint(why, refused_pong),
            from_client,
            from_backend,
            ended: now,
        }
    }

    /// Checks age, idleness, slow readers and liveness. Returns true if the pumps must be polled again.
    fn tick(&mut self, cx: &mut Context<'_>, now: Instant) -> bool {
        if self.timer.is_early(now) && self.is_quiescent() {
            if self.to_backend.take_data_relayed() | self.to_client.take_data_relayed() {
                self.last_active = now;
            }
            return false;
        }
        self.timer.disarm();
        let client_output = pending_output(&self.client, &self.to_client);
        let backend_output = pending_output(&self.backend, &self.to_backend);
        let paused = self.to_backend.resumes().is_some();
        let client_is_read = !self.to_backend.is_blocked() && !paused;
        self.client
            .keepalive
            .observe(now, client_output.bytes_accepted, client_is_read);
        self.backend.keepalive.observe(
            now,
            backend_output.bytes_accepted,
            !self.to_client.is_blocked(),
        );
        self.record_rtts();
        self.backpressure
            .observe(now, client_output, backend_output, paused);
        let data_relayed = self.to_backend.take_data_relayed() | self.to_client.take_data_relayed();
        // Output that is not read, and a pause, do not count: a peer could extend them without limit.
        if data_relayed {
            self.last_active = now;
        }
        if self.closing.is_some() {
            return false;
        }
        if let Some((end, code)) = self.age_deadline()
            && now >= end
        {
            self.close_on_order(EndReason::MaxAge, CloseOrder::internal(code), now);
            return true;
        }
        if self.idle_deadline().is_some_and(|end| now >= end) {
            // Jetty and Tomcat send the same, because neither peer is at fault. 1008 would report a violation, and
            // Python's `websockets` would raise an error for it.
            self.close_on_order(EndReason::MaxIdle, CloseOrder::internal(GOING_AWAY), now);
            return true;
        }
        if self.check_slow_readers(now) || self.check_hang_up(cx, now) {
            return true;
        }
        let client = self.limits.client_ping.is_some_and(|policy| {
            check_liveness(
                &mut self.client,
                &mut self.to_backend,
                &self.to_client,
                policy,
                now,
            )
        });
        let backend = self.limits.backend_ping.is_some_and(|policy| {
            check_liveness(
                &mut self.backend,
                &mut self.to_client,
                &self.to_backend,
                policy,
                now,
            )
        });
        client || backend
    }

    /// Returns whether nothing is pending, so that traffic only postpones deadlines. This holds at almost every read.
    fn is_quiescent(&self) -> bool {
        self.closing.is_none()
            && !self.to_backend.is_blocked()
            && !self.to_client.is_blocked()
            && self.to_backend.resumes().is_none()
            && self.client.keepalive.is_quiescent()
            && self.backend.keepalive.is_quiescent()
    }

    /// Sets the timer to the earliest deadline; returns false if there is none.
    fn arm(&mut self, now: Instant) -> bool {
        let Some(deadline) = self.deadline(now) else {
            return false;
        };
        self.timer.arm(deadline, self.is_quiescent(), now);
        true
    }

    fn record_rtts(&mut self) {
        let (metrics, rtts) = (self.backpressure.metrics(), self.handle.round_trips());
        if let Some(rtt) = self.client.keepalive.take_rtt() {
            rtts.client.set(rtt);
            metrics.client.record_round_trip(rtt);
        }
        if let Some(rtt) = self.backend.keepalive.take_rtt() {
            rtts.backend.set(rtt);
            metrics.backend.record_round_trip(rtt);
        }
    }

    /// Marks slow readers. Returns true if the session must end because of one.
    fn check_slow_readers(&mut self, now: Instant) -> bool {
        let Some(policy) = self.limits.slow_reader else {
            return false;
        };
        let is_due = |leg: &LegBackpressure| leg.deadline(policy).is_some_and(|at| now >= at);
        let (client, backend) = (
            is_due(&self.backpressure.client),
            is_due(&self.backpressure.backend),
        );
        for (is_slow, leg, input) in [
            (client, LegSide::Client, &mut self.to_backend),
            (backend, LegSide::Backend, &mut self.to_client),
        ] {
            if is_slow {
                self.backpressure.mark_slow(leg);
                if policy.close {
                    input.ended = input.ended.or(Some(LegEnd::SlowReader));
                }
            }
        }
        policy.close && (client || backend)
    }

    /// Marks a client that has disconnected while the backend accepts nothing, so that no read returns the end of the
    /// leg. The backend has [`Splice::hang_up_delay`] to accept a byte, because the client's last messages may be
    /// unread. Returns true if the client was marked.
    fn check_hang_up(&mut self, cx: &mut Context<'_>, now: Instant) -> bool {
        let since = self.backpressure.backend.blocked_since();
        let is_due = since.is_some_and(|since| now >= since + self.hang_up_delay());
        if !is_due || self.client.broken || self.client.io.poll_hang_up(cx).is_pending() {
            return false;
        }
        self.client.broken = true;
        true
    }

    /// Returns when the client must be checked next for a disconnect that no read returns.
    fn hang_up_deadline(&self, now: Instant) -> Option<Instant> {
        let since = self.backpressure.backend.blocked_since()?;
        let (first, next) = (since + self.hang_up_delay(), now + self.hang_up_delay());
        Some(if now < first { first } else { next })
    }

    /// Returns how long the backend must have accepted nothing before a disconnected client ends the session.
    fn hang_up_delay(&self) -> Duration {
        self.limits.close_timeout.max(MIN_HANG_UP_DELAY)
    }

    fn idle_deadline(&self) -> Option<Instant> {
        Some(self.last_active + self.limits.max_idle?)
    }

    /// Returns when the session reaches its maximum age, and the close code for that case.
    fn age_deadline(&self) -> Option<(Instant, u16)> {
        let (age, code) = self.limits.max_age?;
        let jitter = age / 10 * u32::from(self.jitter) / 255;
        Some((self.opened + (age - jitter), code))
    }

    fn deadline(&self, now: Instant) -> Option<Instant> {
        match &self.closing {
            Some(closing) => {
                let pending_closes = [&self.to_backend, &self.to_client]
                    .into_iter()
                    .filter_map(|pump| pump.close.as_ref());
                pending_closes
                    .map(|close| close.not_before)
                    .filter(|at| *at > now)
                    .chain([closing.deadline])
                    .min()
            }
            None => {
                let client = self
                    .limits
                    .client_ping
                    .and_then(|policy| self.client.keepalive.deadline(policy));
                let backend = self
                    .limits
                    .backend_ping
                    .and_then(|policy| self.backend.keepalive.deadline(policy));
                let age = self.age_deadline().map(|(end, _)| end);
                let slow = self.limits.slow_reader.and_then(|policy| {
                    let legs = [&self.backpressure.client, &self.backpressure.backend];
                    legs.into_iter()
                        .filter_map(|leg| leg.deadline(policy))
                        .min()
                });
                let all = [
                    client,
                    backend,
                    age,
                    slow,
                    self.idle_deadline(),
                    self.hang_up_deadline(now),
                    self.to_backend.resumes(),
                ];
                all.into_iter().flatten().min()
            }
        }
    }
}

/// Checks the liveness of one leg, whose input is read by `from` and whose output is written by `to`. Returns true if a
/// Ping became due or the peer is dead.
fn check_liveness<S: LegIo>(
    leg: &mut Leg<S>,
    from: &mut Pump,
    to: &Pump,
    policy: PingPolicy,
    now: Instant,
) -> bool {
    let was_due = leg.keepalive.ping_is_due();
    if leg.keepalive.tick(now, policy, to.is_blocked()) {
        from.ended = Some(LegEnd::PingTimeout);
        return true;
    }
    leg.keepalive.ping_is_due() && !was_due
}

/// Returns the pending output of `leg`, which is written by `to`.
fn pending_output<S: LegIo>(leg: &Leg<S>, to: &Pump) -> PendingOutput {
    let bytes_accepted = leg.io.bytes_accepted();
    PendingOutput {
        blocked: to.is_blocked(),
        bytes: to.blocked_bytes(bytes_accepted),
        bytes_accepted,
    }
}

/// Lower bound of the interval of the checks for a disconnect.
const MIN_HANG_UP_DELAY: Duration = Duration::from_secs(1);
