//! The checker task of one backend: runs health checks periodically and connect probes if necessary, and logs changes.

use crate::{
    config::Check,
    net::{
        descriptors::DescriptorBudget,
        random::{fraction, jitter},
        resolver::Resolver,
    },
    observe::metrics::Metrics,
    upstream::{
        backend::BackendState,
        health::{
            check::{HealthCheck, run_check},
            error::CheckError,
            probe::{probe_loop, sleep_until_some},
            state::Condition,
        },
    },
};
use std::{future::pending, sync::Arc, time::Duration};
use tokio::{sync::watch, time::Instant};
use tracing::{info, warn};

/// Checks a backend as configured by `health_check`, which a reload may replace, until its sender is dropped. Probes
/// the backend if clients could not connect. Logs every change of the backend's condition and state, and calls `down`
/// when health checks mark it down. The backend is always the same one.
pub(crate) async fn run_checker(
    health_check: watch::Receiver<HealthCheck>,
    resolver: &Resolver,
    descriptors: &Arc<DescriptorBudget>,
    metrics: &Metrics,
    down: impl Fn(&HealthCheck),
) {
    tokio::select! {
        () = check_loop(health_check.clone(), resolver, descriptors) => {}
        () = probe_loop(health_check.clone(), resolver, descriptors) => {}
        () = report_changes(health_check, metrics, down) => {}
    }
}

/// Runs one check after the other. A reload may change the time of the next one, but never cancels a running check.
async fn check_loop(
    mut check_rx: watch::Receiver<HealthCheck>,
    resolver: &Resolver,
    descriptors: &Arc<DescriptorBudget>,
) {
    let backend = check_rx.borrow().backend().clone();
    let health = backend.health();
    let (mut first, mut last) = (None, None);
    loop {
        let health_check = check_rx.borrow_and_update().clone();
        let settings = &health_check.settings;
        if settings.check == Check::Off {
            health.forget_checks();
            (first, last) = (None, None);
        }
        // The first checks start at once, with jitter so that those of many backends do not coincide.
        let soon = settings.interval.0.min(Duration::from_secs(1));
        let first = first.get_or_insert_with(|| Instant::now() + jitter(soon));
        let due = match (settings.check, last) {
            (Check::Off, _) => None,
            (_, None) => Some(*first),
            (_, Some(last)) => Some(last + settings.interval.0.mul_f64(0.9 + 0.2 * fraction())),
        };
        tokio::select! {
            () = sleep_until_some(due) => {}
            changed = check_rx.changed() => match changed {
                Ok(()) => continue,
                Err(_) => return,
            }
        }
        last = Some(Instant::now());
        // Completed despite a reload, because a server may log an error for an aborted connection.
        let found = run_check(&health_check, resolver, descriptors).await;
        if check_rx.has_changed().is_err() {
            return;
        }
        // Without a descriptor nothing is known about the backend: its state stays as it is.
        if found.as_ref().is_err_and(CheckError::is_exhaustion) {
            continue;
        }
        // A check that has been turned off has no result.
        if !check_rx.borrow().is_off() {
            health.record_check(found, settings);
        }
    }
}

/// Logs and counts each change of the condition. `down` closes the sessions of a backend that is down, if its pool is
/// configured so. A backend that is up again is offered to queued requests.
async fn report_changes(
    mut check_rx: watch::Receiver<HealthCheck>,
    metrics: &Metrics,
    down: impl Fn(&HealthCheck),
) {
    let backend = check_rx.borrow().backend().clone();
    let (health, name) = (backend.health(), backend.name());
    let mut logged = BackendState::Up;
    loop {
        if check_rx.has_changed().is_err() {
            // The backend is no longer configured: nothing more is logged, and a running check completes.
            return pending().await;
        }
        for change in health.take_changes() {
            // Held while the change is logged: a reload that assigns another pool waits for that.
            let health_check = check_rx.borrow();
            let pool = health_check.pool();
            metrics.record_transition(pool, name, change.to.as_str());
            let why = change.why.unwrap_or_default();
            match change.to {
                Condition::Up => {
                    info!(%pool, backend = %name, "backend is up");
                    backend.offer_capacity();
                }
                Condition::Down => {
                    warn!(%pool, backend = %name, %why, "backend is down; health checks fail");
                    down(&health_check);
                }
                Condition::Ejected => {
                    warn!(%pool, backend = %name, %why, "backend is ejected; connects or handshakes fail");
                }
            }
        }
        let slow_start_ends = {
            let health_check = check_rx.borrow_and_update();
            log_state(&health_check, &mut logged, metrics);
            health_check.slow_start_ends()
        };
        tokio::select! {
            () = health.changed.notified() => {}
            () = sleep_until_some(health.ejection_ends()) => health.expire_ejection(Instant::now()),
            () = sleep_until_some(slow_start_ends) => {}
            // Another pool or another `slow_start`. A dropped sender is noticed above.
            _ = check_rx.changed() => {}
        }
    }
}

/// Logs changes of the state since `logged`, apart from the condition. A drain is logged where it is ordered.
fn log_state(health_check: &HealthCheck, logged: &mut BackendState, metrics: &Metrics) {
    let (pool, name) = (health_check.pool(), health_check.backend().name());
    let state = health_check.state(Instant::now());
    metrics.set_backend_state(pool, name, state.as_str());
    match (*logged, state) {
        (before, BackendState::Warming) if before != BackendState::Warming => {
            let slow_start = health_check.slow_start;
            info!(%pool, backend = %name, ?slow_start, "slow start began");
        }
        (BackendState::Warming, BackendState::Up) => {
            info!(%pool, backend = %name, "slow start ended");
        }
        _ => {}
    }
    *logged = state;
}
