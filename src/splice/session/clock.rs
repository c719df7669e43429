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
    /// Checks the liveness of both legs, slow readers and idleness. Returns true if something became due.
    pub(super) fn tick(&mut self, now: Instant) -> bool {
        if self.alarm.is_early(now) && self.is_quiescent() {
            if self.to_backend.take_moved() | self.to_client.take_moved() {
                self.active = now;
            }
            return false;
        }
        self.alarm.disarm();
        let client_pipe = pending_output(&self.client, &self.to_client);
        let backend_pipe = pending_output(&self.backend, &self.to_backend);
        let paused = self.to_backend.resumes().is_some();
        let reads = !self.to_backend.is_blocked() && !paused;
        self.client.pulse.observe(now, client_pipe.taken, reads);
        self.backend
            .pulse
            .observe(now, backend_pipe.taken, !self.to_client.is_blocked());
        self.record_rtts();
        self.backpressure
            .observe(now, client_pipe, backend_pipe, paused);
        let moved = self.to_backend.take_moved() | self.to_client.take_moved();
        if moved || client_pipe.stuck || backend_pipe.stuck || paused {
            self.active = now;
        }
        if self.ending.is_some() {
            return false;
        }
        if let Some((end, code)) = self.end_of_age()
            && now >= end
        {
            self.close_on_order(EndReason::MaxAge, CloseOrder::internal(code), now);
            return true;
        }
        if self.end_of_idle().is_some_and(|end| now >= end) {
            self.close_on_order(EndReason::MaxIdle, CloseOrder::internal(IDLE_CODE), now);
            return true;
        }
        if self.find_slow_readers(now) {
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
        self.ending.is_none()
            && !self.to_backend.is_blocked()
            && !self.to_client.is_blocked()
            && self.to_backend.resumes().is_none()
            && self.client.pulse.is_quiescent()
            && self.backend.pulse.is_quiescent()
    }

    /// Sets the timer to the earliest deadline; returns false if there is none.
    pub(super) fn arm(&mut self, now: Instant) -> bool {
        let Some(deadline) = self.deadline(now) else {
            return false;
        };
        self.alarm.arm(deadline, self.is_quiescent(), now);
        true
    }

    fn record_rtts(&mut self) {
        let (flow, trips) = (self.backpressure.flow(), self.handle.round_trips());
        if let Some(took) = self.client.pulse.round_trip() {
            trips.client.set(took);
            flow.client.round_trip(took);
        }
        if let Some(took) = self.backend.pulse.round_trip() {
            trips.backend.set(took);
            flow.backend.round_trip(took);
        }
    }

    /// Marks slow readers. Returns true if the session must end because of one.
    fn find_slow_readers(&mut self, now: Instant) -> bool {
        let Some(policy) = self.limits.slow_reader else {
            return false;
        };
        let is_due = |strain: &LegBackpressure| strain.deadline(policy).is_some_and(|at| now >= at);
        let (client, backend) = (
            is_due(&self.backpressure.client),
            is_due(&self.backpressure.backend),
        );
        for (slow, is_client, from) in [
            (client, true, &mut self.to_backend),
            (backend, false, &mut self.to_client),
        ] {
            if slow {
                self.backpressure.mark_slow(is_client);
                if policy.close {
                    from.ended = from.ended.or(Some(LegEnd::SlowReader));
                }
            }
        }
        policy.close && (client || backend)
    }

    fn end_of_idle(&self) -> Option<Instant> {
        Some(self.active + self.limits.max_idle?)
    }

    /// Returns when the session reaches its maximum age, and the close code for that case.
    fn end_of_age(&self) -> Option<(Instant, u16)> {
        let (age, code) = self.limits.max_age?;
        let sooner = age / 10 * u32::from(self.jitter) / 255;
        Some((self.opened + (age - sooner), code))
    }

    fn deadline(&self, now: Instant) -> Option<Instant> {
        match &self.ending {
            Some(ending) => {
                let closes = [&self.to_backend, &self.to_client]
                    .into_iter()
                    .filter_map(|pump| pump.close.as_ref());
                closes
                    .map(|close| close.not_before)
                    .filter(|at| *at > now)
                    .chain([ending.deadline])
                    .min()
            }
            None => {
                let client = self
                    .limits
                    .client_ping
                    .and_then(|policy| self.client.pulse.deadline(policy));
                let backend = self
                    .limits
                    .backend_ping
                    .and_then(|policy| self.backend.pulse.deadline(policy));
                let age = self.end_of_age().map(|(end, _)| end);
                let slow = self.limits.slow_reader.and_then(|policy| {
                    let strains = [&self.backpressure.client, &self.backpressure.backend];
                    strains
                        .into_iter()
                        .filter_map(|strain| strain.deadline(policy))
                        .min()
                });
                let all = [
                    client,
                    backend,
                    age,
                    slow,
                    self.end_of_idle(),
                    self.to_backend.resumes(),
                ];
                all.into_iter().flatten().min()
            }
        }
    }
}

/// Checks one leg, whose input is read by `from` and whose output is written by `to`.
fn tick<S: Transport>(
    leg: &mut Leg<S>,
    from: &mut Pump,
    to: &Pump,
    policy: PingPolicy,
    now: Instant,
) -> bool {
    let was_due = leg.pulse.ping_is_due();
    if leg.pulse.tick(now, policy, to.is_blocked()) {
        from.ended = Some(LegEnd::PingTimeout);
        return true;
    }
    leg.pulse.ping_is_due() && !was_due
}

/// Returns the pending output of a leg, which is written by `to`.
fn pending_output<S: Transport>(leg: &Leg<S>, to: &Pump) -> PendingOutput {
    let taken = leg.io.taken();
    PendingOutput {
        stuck: to.is_blocked(),
        bytes: to.blocked_bytes(taken),
        taken,
    }
}

/// Going away (RFC 6455 §7.4.1), as Jetty and Tomcat send it, because neither peer is at fault. 1008 would report a
/// violation, and Python's `websockets` would raise an error for it.
const IDLE_CODE: u16 = 1001;
