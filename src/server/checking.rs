//! The watch over every backend in force.

use super::{Server, drains::DrainPacing};
use crate::{
    gateway::Gateway,
    observe::{Metrics, SessionTarget},
    upstream::{self, Backend, Condition, HealthCheck},
};
use std::{
    collections::{HashMap, hash_map::Entry},
    sync::Arc,
};
use tokio::{sync::watch, time::Instant};
use tracing::info;

/// Who is watched, by where they are in memory: an address that went and came back is another backend.
#[derive(Debug, Default)]
pub(super) struct HealthTasks(HashMap<usize, watch::Sender<HealthCheck>>);

// === impl Server ===

impl Server {
    /// Watches the backends of the gateway in force. The watch over who stays goes on, by what is said of it now.
    pub(super) fn watch_backends(&mut self) {
        let metrics = &self.context.metrics;
        let mut wanted = wanted(&self.context.live.snapshot());
        self.watched.0.retain(|place, said| {
            let Some(probe) = wanted.remove(place) else {
                let before = said.borrow();
                metrics.remove_backend(before.pool(), before.backend().name());
                return false;
            };
            said.send_modify(|before| {
                if before.pool() != probe.pool() {
                    metrics.remove_backend(before.pool(), before.backend().name());
                    introduce(&probe, metrics);
                }
                *before = probe;
            });
            true
        });
        for (place, probe) in wanted {
            let said = self.watch_backend(probe);
            self.watched.0.insert(place, said);
        }
    }

    /// In a task of its own, which ends when the sender is dropped.
    fn watch_backend(&self, probe: HealthCheck) -> watch::Sender<HealthCheck> {
        let (context, drains) = (self.context.clone(), self.drains.clone());
        introduce(&probe, &context.metrics);
        let (say, said) = watch::channel(probe);
        self.context.tasks.spawn(async move {
            let down = |probe: &HealthCheck| {
                let gateway = context.live.snapshot();
                let backend = probe.backend();
                let leaving = context
                    .sessions
                    .matching(|session| gateway.must_drain(session, backend));
                if leaving.is_empty() {
                    return;
                }
                info!(pool = %probe.pool(), backend = %backend.name(), closing = leaving.len(), "its sessions are closed");
                let (still, gone) = (context.clone(), backend.clone());
                // Who comes back meanwhile keeps the rest.
                let must_go =
                    move |session: &SessionTarget| still.live.snapshot().must_drain(session, &gone);
                drains.close(leaving, DrainPacing::of(&gateway.drain), must_go, &context.tasks);
            };
            let watch = upstream::run_checker(said, &context.resolver, &context.metrics, down);
            tokio::select! {
                () = watch => {}
                () = context.tasks.stopping() => {}
            }
        });
        say
    }
}

/// Every backend once, as the first pool has it that has it checked, or else the first of all.
fn wanted(gateway: &Gateway) -> HashMap<usize, HealthCheck> {
    let mut wanted: HashMap<usize, HealthCheck> = HashMap::new();
    for probe in gateway.pools().flat_map(|pool| pool.probes()) {
        match wanted.entry(place(probe.backend())) {
            Entry::Vacant(nobody) => {
                nobody.insert(probe);
            }
            Entry::Occupied(mut first) if first.get().is_off() => {
                if !probe.is_off() {
                    first.insert(probe);
                }
            }
            Entry::Occupied(_) => {}
        }
    }
    wanted
}

/// Its series begin. Not everybody who comes is well: it may have been here before.
fn introduce(probe: &HealthCheck, metrics: &Metrics) {
    let (backend, state) = (probe.backend(), probe.state(Instant::now()));
    let up = backend.health().condition().0 == Condition::Up;
    metrics.backend(probe.pool(), backend.name(), up, state.as_str());
}

fn place(backend: &Arc<Backend>) -> usize {
    Arc::as_ptr(backend).addr()
}
