//! What time does to a session: liveness, age, idleness, slow readers; one deadline for all of it.

use super::Session;
use crate::{
    observe::CloseOrder,
    splice::{
        Transport, PingPolicy, Why,
        leg::Leg,
        pump::{End, Pump},
        strain::{Pipe, Strain},
    },
};
use tokio::time::Instant;

// === impl Session ===

impl<C: Transport, B: Transport> Session<C, B> {
    /// Looks after both legs' liveness, and after who is slow or idle. True if something became due.
    pub(super) fn tick(&mut self, now: Instant) -> bool {
        if self.alarm.holds(now) && self.is_calm() {
            if self.up.take_moved() | self.down.take_moved() {
                self.active = now;
            }
            return false;
        }
        self.alarm.disarm();
        let client_pipe = pipe(&self.client, &self.down);
        let backend_pipe = pipe(&self.backend, &self.up);
        let paused = self.up.resumes().is_some();
        let reads = !self.up.is_stuck() && !paused;
        self.client.pulse.observe(now, client_pipe.taken, reads);
        self.backend
            .pulse
            .observe(now, backend_pipe.taken, !self.down.is_stuck());
        self.note_round_trips();
        self.strains.observe(now, client_pipe, backend_pipe, paused);
        let moved = self.up.take_moved() | self.down.take_moved();
        if moved || client_pipe.stuck || backend_pipe.stuck || paused {
            self.active = now;
        }
        if self.ending.is_some() {
            return false;
        }
        if let Some((end, code)) = self.end_of_age()
            && now >= end
        {
            self.obey(Why::MaxAge, CloseOrder::internal(code), now);
            return true;
        }
        if self.end_of_idle().is_some_and(|end| now >= end) {
            self.obey(Why::MaxIdle, CloseOrder::internal(IDLE_CODE), now);
            return true;
        }
        if self.find_slow_readers(now) {
            return true;
        }
        let client = self
            .limits
            .client_ping
            .is_some_and(|policy| tick(&mut self.client, &mut self.up, &self.down, policy, now));
        let backend = self
            .limits
            .backend_ping
            .is_some_and(|policy| tick(&mut self.backend, &mut self.down, &self.up, policy, now));
        client || backend
    }

    /// Nothing waits for anything: what passes only puts deadlines off. Almost every read finds it so.
    fn is_calm(&self) -> bool {
        self.ending.is_none()
            && !self.up.is_stuck()
            && !self.down.is_stuck()
            && self.up.resumes().is_none()
            && self.client.pulse.is_calm()
            && self.backend.pulse.is_calm()
    }

    /// Sets the timer to when there is something to be done even if nothing comes; false if that is never.
    pub(super) fn arm(&mut self, now: Instant) -> bool {
        let Some(deadline) = self.deadline(now) else {
            return false;
        };
        self.alarm.arm(deadline, self.is_calm(), now);
        true
    }

    fn note_round_trips(&mut self) {
        let (flow, trips) = (self.strains.flow(), self.handle.round_trips());
        if let Some(took) = self.client.pulse.round_trip() {
            trips.client.set(took);
            flow.client.round_trip(took);
        }
        if let Some(took) = self.backend.pulse.round_trip() {
            trips.backend.set(took);
            flow.backend.round_trip(took);
        }
    }

    /// True if a session must end because of one.
    fn find_slow_readers(&mut self, now: Instant) -> bool {
        let Some(policy) = self.limits.slow_reader else {
            return false;
        };
        let is_due = |strain: &Strain| strain.deadline(policy).is_some_and(|at| now >= at);
        let (client, backend) = (is_due(&self.strains.client), is_due(&self.strains.backend));
        for (slow, is_client, from) in [
            (client, true, &mut self.up),
            (backend, false, &mut self.down),
        ] {
            if slow {
                self.strains.found_slow(is_client);
                if policy.close {
                    from.ended = from.ended.or(Some(End::SlowReader));
                }
            }
        }
        policy.close && (client || backend)
    }

    fn end_of_idle(&self) -> Option<Instant> {
        Some(self.active + self.limits.max_idle?)
    }

    /// When it has lasted long enough, and the code to close it with.
    fn end_of_age(&self) -> Option<(Instant, u16)> {
        let (age, code) = self.limits.max_age?;
        let sooner = age / 10 * u32::from(self.luck) / 255;
        Some((self.opened + (age - sooner), code))
    }

    fn deadline(&self, now: Instant) -> Option<Instant> {
        match &self.ending {
            Some(ending) => {
                let closes = [&self.up, &self.down]
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
                    let strains = [&self.strains.client, &self.strains.backend];
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
                    self.up.resumes(),
                ];
                all.into_iter().flatten().min()
            }
        }
    }
}

/// Looks after one leg, whose bytes come through `from` and go through `to`.
fn tick<S: Transport>(
    leg: &mut Leg<S>,
    from: &mut Pump,
    to: &Pump,
    policy: PingPolicy,
    now: Instant,
) -> bool {
    let was_due = leg.pulse.ping_is_due();
    if leg.pulse.tick(now, policy, to.is_stuck()) {
        from.ended = Some(End::Dead);
        return true;
    }
    leg.pulse.ping_is_due() && !was_due
}

/// What is seen of a leg, whose bytes come through `to`.
fn pipe<S: Transport>(leg: &Leg<S>, to: &Pump) -> Pipe {
    let taken = leg.io.taken();
    Pipe {
        stuck: to.is_stuck(),
        bytes: to.stuck_bytes(taken),
        taken,
    }
}

/// Nobody has done wrong, and nobody goes on: going away (RFC 6455 §7.4.1), as Jetty and Tomcat do. 1008 would call
/// silence a fault, and Python's `websockets` would raise an error for it.
const IDLE_CODE: u16 = 1001;
