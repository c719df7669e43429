//! The health check tasks. What a task does is in `upstream/health/checker.rs`.

use crate::{
    gateway::Gateway,
    http::context::Context,
    observe::metrics::Metrics,
    registry::SessionTarget,
    server::drain::{DrainPacing, Drains},
    upstream::{
        backend::Backend,
        health::{check::HealthCheck, checker, state::Condition},
    },
};
use std::{
    collections::{HashMap, hash_map::Entry},
    sync::Arc,
};
use tokio::{sync::watch, time::Instant};
use tracing::info;

/// The checker tasks, one for each backend of the current gateway.
#[derive(Debug)]
pub(crate) struct HealthTasks {
    context: Arc<Context>,
    drains: Drains,
    /// By the backend's location in memory: an address that was removed and added again is a different backend. A task
    /// ends when its sender is dropped.
    senders: HashMap<usize, watch::Sender<HealthCheck>>,
}

// === impl HealthTasks ===

impl HealthTasks {
    pub(crate) fn new(context: Arc<Context>, drains: Drains) -> Self {
        HealthTasks {
            context,
            drains,
            senders: HashMap::new(),
        }
    }

    /// Starts and ends checker tasks so that each backend of the current gateway has one. A task that stays receives
    /// the settings of the current gateway.
    pub(crate) fn refresh(&mut self) {
        let metrics = &self.context.metrics;
        let mut checks = checks_by_backend(&self.context.live.snapshot());
        self.senders.retain(|key, sender| {
            let Some(check) = checks.remove(key) else {
                let before = sender.borrow();
                metrics.remove_backend(before.pool(), before.backend().name());
                return false;
            };
            sender.send_modify(|before| {
                if before.pool() != check.pool() {
                    metrics.remove_backend(before.pool(), before.backend().name());
                    register_metrics(&check, metrics);
                }
                *before = check;
            });
            true
        });
        for (key, check) in checks {
            let sender = self.spawn_checker(check);
            self.senders.insert(key, sender);
        }
    }

    /// Spawns the checker task of one backend. The task ends when the returned sender is dropped.
    fn spawn_checker(&self, check: HealthCheck) -> watch::Sender<HealthCheck> {
        let (context, drains) = (self.context.clone(), self.drains.clone());
        register_metrics(&check, &context.metrics);
        let (sender, receiver) = watch::channel(check);
        let tasks = &self.context.tasks;
        tasks.spawn_loop("health", tasks.stop_token(), move || {
            run_checker(receiver.clone(), context.clone(), drains.clone())
        });
        sender
    }
}

/// Checks one backend until the sender is dropped. When it is down, its sessions are closed if its pool is configured
/// so.
async fn run_checker(
    health_check: watch::Receiver<HealthCheck>,
    context: Arc<Context>,
    drains: Drains,
) {
    let on_down = |check: &HealthCheck| {
        let gateway = context.live.snapshot();
        let backend = check.backend();
        let leaving = context
            .sessions
            .matching(|session| gateway.must_drain(session, backend));
        if leaving.is_empty() {
            return;
        }
        info!(pool = %check.pool(), backend = %backend.name(), closing = leaving.len(), "closing the sessions of a backend that is down");
        // A backend that recovers in the meantime keeps its remaining sessions.
        let must_close = {
            let (context, backend) = (context.clone(), backend.clone());
            move |session: &SessionTarget| context.live.snapshot().must_drain(session, &backend)
        };
        drains.close(
            leaving,
            DrainPacing::of(&gateway.drain),
            must_close,
            &context.tasks,
        );
    };
    checker::run_checker(
        health_check,
        &context.resolver,
        &context.descriptors,
        &context.metrics,
        on_down,
    )
    .await;
}

/// Returns one check for each backend: that of the first pool with health checks for it, otherwise that of the first
/// pool that has it.
fn checks_by_backend(gateway: &Gateway) -> HashMap<usize, HealthCheck> {
    let mut checks: HashMap<usize, HealthCheck> = HashMap::new();
    for check in gateway.pools().flat_map(|pool| pool.health_checks()) {
        match checks.entry(backend_key(check.backend())) {
            Entry::Vacant(vacant) => {
                vacant.insert(check);
            }
            Entry::Occupied(mut first) if first.get().is_off() => {
                if !check.is_off() {
                    first.insert(check);
                }
            }
            Entry::Occupied(_) => {}
        }
    }
    checks
}

/// Creates the metric series of a backend. The backend may be down already if an earlier gateway checked it.
fn register_metrics(check: &HealthCheck, metrics: &Metrics) {
    let (backend, state) = (check.backend(), check.state(Instant::now()));
    let up = backend.health().condition().0 == Condition::Up;
    metrics.add_backend(check.pool(), backend.name(), up, state.as_str());
}

fn backend_key(backend: &Arc<Backend>) -> usize {
    Arc::as_ptr(backend).addr()
}
