//! The watch over one backend: checks in their rhythm, and the telling of what changes.

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

/// Checks a backend as `probe` says, from one reload to the next, until its sender is gone; tells every change of the
/// backend's condition and state, and calls `down` when it is taken out by checks. It is always the same backend.
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

/// One check after the other: a reload may change when the next one is, but never ends one.
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
        // The first ones come at once, but those of many backends not in the same moment.
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
        // To its end, whatever is said meanwhile: a server may complain of what is broken off.
        let found = check(&probe, resolver).await;
        if said.has_changed().is_err() {
            return;
        }
        // Who is not asked any more has given no answer.
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
            // It is in no configuration any more: nobody is told, and a check under way comes to its end.
            return pending().await;
        }
        for HealthChange { to, why } in health.take_changes() {
            // Held while it is told: a reload that gives it another pool waits for that.
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
                    warn!(%pool, backend = %name, %why, "a backend is ejected for a while: handshakes fail");
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
            // Another pool, or another slow start. That nobody says anything any more is seen above.
            _ = said.changed() => {}
        }
    }
}

/// What has become of it since `told`, beyond its condition. An order is told by whoever carries it out.
fn log_state(probe: &HealthCheck, told: &mut BackendState, metrics: &Metrics) {
    let (pool, name) = (probe.pool(), probe.backend().name());
    let state = probe.state(Instant::now());
    metrics.backend_state(pool, name, state.as_str());
    match (*told, state) {
        (before, BackendState::Warming) if before != BackendState::Warming => {
            let slow_start = probe.slow_start;
            info!(%pool, backend = %name, ?slow_start, "a backend is warming: it gets a growing part of what is new");
        }
        (BackendState::Warming, BackendState::Up) => {
            info!(%pool, backend = %name, "a backend is warm: it gets its whole share");
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

/// From 0 to 1.
fn jitter() -> f64 {
    // Without chance they would come in an even rhythm all the same.
    f64::from(getrandom::u32().unwrap_or(0)) / f64::from(u32::MAX)
}
