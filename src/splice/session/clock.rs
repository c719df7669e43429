//! Time-based rules of a session: liveness, age, idleness and slow readers, with one common deadline.

use super::Splice;
use crate::{
    observe::CloseOrder,
    splice::{
        EndReason, PingPolicy, Transport,
        leg::Leg,
        pump::{LegEnd, Pump},
        strain::{LegBackpressure, PendingOutput},
    },
};
use tokio::time::Instant;

// === impl Splice ===

impl<C: Transport, B: Transport> Splice<C, B> {
    /// Checks age, idleness, slow readers and liveness. Returns true if the pumps must be polled again.
    pub(super) fn tick(&mut self, now: Instant) -> bool {
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
        if data_relayed || client_output.blocked || backend_output.blocked || paused {
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
            self.close_on_order(EndReason::MaxIdle, CloseOrder::internal(IDLE_CODE), now);
            return true;
        }
        if self.check_slow_readers(now) {
            return true;
        }
        let client = self.limits.client_ping.is_some_and(|policy| {
            tick(
                &mut self.client,
                &mut self.to_backend,
                &self.to_client,
                policy,
                now,
            )
        });
        let backend = self.limits.backend_ping.is_some_and(|policy| {
            tick(
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
    pub(super) fn arm(&mut self, now: Instant) -> bool {
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
            metrics.client.round_trip(rtt);
        }
        if let Some(rtt) = self.backend.keepalive.take_rtt() {
            rtts.backend.set(rtt);
            metrics.backend.round_trip(rtt);
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
        for (is_slow, is_client, input) in [
            (client, true, &mut self.to_backend),
            (backend, false, &mut self.to_client),
        ] {
            if is_slow {
                self.backpressure.mark_slow(is_client);
                if policy.close {
                    input.ended = input.ended.or(Some(LegEnd::SlowReader));
                }
            }
        }
        policy.close && (client || backend)
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
                    self.to_backend.resumes(),
                ];
                all.into_iter().flatten().min()
            }
        }
    }
}

/// Checks the liveness of one leg, whose input is read by `from` and whose output is written by `to`. Returns true if a
/// Ping became due or the peer is dead.
fn tick<S: Transport>(
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
fn pending_output<S: Transport>(leg: &Leg<S>, to: &Pump) -> PendingOutput {
    let bytes_accepted = leg.io.bytes_accepted();
    PendingOutput {
        blocked: to.is_blocked(),
        bytes: to.blocked_bytes(bytes_accepted),
        bytes_accepted,
    }
}

/// Going away (RFC 6455 §7.4.1), as Jetty and Tomcat send it, because neither peer is at fault. 1008 would report a
/// violation, and Python's `websockets` would raise an error for it.
const IDLE_CODE: u16 = 1001;
