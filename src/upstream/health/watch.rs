//! The watch task of one backend: runs health checks periodically and logs changes.

use super::{Condition, HealthChange, HealthCheck, check::check};
use crate::{
    config::Check,
    observe::{ErrorChain, Metrics},
    upstream::{BackendState, Resolver},
};
use std::{future::pending, time::Duration};
use tokio::{
    sync::watch,
    time::{Instant, sleep_until},
};
use tracing::{info, warn};

/// Checks a backend as configured by `probe`, which a reload may replace, until its sender is dropped. Logs every
/// change of the backend's condition and state, and calls `down` when health checks mark it down. The backend is always
/// the same one.
pub async fn run_checker(
    probe: watch::Receiver<HealthCheck>,
    resolver: &Resolver,
    metrics: &Metrics,
    down: impl Fn(&HealthCheck),
) {
    tokio::select! {
        () = check_on(probe.clone(), resolver) => {}
        () = log_changes(probe, metrics, down) => {}
    }
}

/// Runs one check after the other. A reload may change the time of the next one, but never cancels a running check.
async fn check_on(mut said: watch::Receiver<HealthCheck>, resolver: &Resolver) {
    let backend = said.borrow().backend().clone();
    let health = backend.health();
    let (mut first, mut last) = (None, None);
    loop {
        let probe = said.borrow_and_update().clone();
        let how = &probe.how;
        if how.check == Check::Off {
            health.unchecked();
            (first, last) = (None, None);
        }
        // The first checks start at once, with jitter so that those of many backends do not coincide.
        let soon = how.interval.0.min(Duration::from_secs(1));
        let first = first.get_or_insert_with(|| Instant::now() + soon.mul_f64(jitter()));
        let due = match (how.check, last) {
            (Check::Off, _) => None,
            (_, None) => Some(*first),
            (_, Some(last)) => Some(last + how.interval.0.mul_f64(0.9 + 0.2 * jitter())),
        };
        tokio::select! {
            () = at(due) => {}
            changed = said.changed() => match changed {
                Ok(()) => continue,
                Err(_) => return,
            }
        }
        last = Some(Instant::now());
        // Completed despite a reload, because a server may log an error for a connection that breaks off.
        let found = check(&probe, resolver).await;
        if said.has_changed().is_err() {
            return;
        }
        // A check that has been turned off has no result.
        if !said.borrow().is_off() {
            let found = found.map_err(|error| ErrorChain(&error).to_string());
            health.checked(found, how);
        }
    }
}

async fn log_changes(
    mut said: watch::Receiver<HealthCheck>,
    metrics: &Metrics,
    down: impl Fn(&HealthCheck),
) {
    let backend = said.borrow().backend().clone();
    let (health, name) = (backend.health(), backend.name());
    let mut told = BackendState::Up;
    loop {
        if said.has_changed().is_err() {
            // The backend is in no configuration any longer: nothing is logged, and a running check completes.
            return pending().await;
        }
        for HealthChange { to, why } in health.take_changes() {
            // Held while the change is logged: a reload that assigns another pool waits for that.
            let probe = said.borrow();
            let pool = probe.pool();
            metrics.backend_changed(pool, name, to.as_str());
            let why = why.unwrap_or_default();
            match to {
                Condition::Up => {
                    info!(%pool, backend = %name, "a backend is up again");
                    backend.start_slow(Instant::now());
                }
                Condition::Down => {
                    warn!(%pool, backend = %name, %why, "a backend is down: its checks fail");
                    down(&probe);
                }
                Condition::Ejected => {
                    warn!(%pool, backend = %name, %why, "a backend is ejected: handshakes fail");
                }
            }
        }
        let warm = {
            let probe = said.borrow_and_update();
            log_state(&probe, &mut told, metrics);
            probe.warm_at()
        };
        tokio::select! {
            () = health.changed.notified() => {}
            () = at(health.ends()) => health.pass(Instant::now()),
            () = at(warm) => {}
            // Another pool or another `slow_start`. A dropped sender is noticed above.
            _ = said.changed() => {}
        }
    }
}

/// Logs changes of the state since `told`, apart from the condition. A drain is logged where it is ordered.
fn log_state(probe: &HealthCheck, told: &mut BackendState, metrics: &Metrics) {
    let (pool, name) = (probe.pool(), probe.backend().name());
    let state = probe.state(Instant::now());
    metrics.backend_state(pool, name, state.as_str());
    match (*told, state) {
        (before, BackendState::Warming) if before != BackendState::Warming => {
            let slow_start = probe.slow_start;
            info!(%pool, backend = %name, ?slow_start, "a backend is warming: it receives a growing share of new sessions");
        }
        (BackendState::Warming, BackendState::Up) => {
            info!(%pool, backend = %name, "a backend is warm: it receives its full share");
        }
        _ => {}
    }
    *told = state;
}

async fn at(when: Option<Instant>) {
    match when {
        Some(when) => sleep_until(when).await,
        None => pending().await,
    }
}

/// Returns a number from 0 to 1.
fn jitter() -> f64 {
    // Without a random number the checks still come at a steady interval.
    f64::from(getrandom::u32().unwrap_or(0)) / f64::from(u32::MAX)
}
