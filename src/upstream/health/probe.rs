//! Connect probes: connects of Lockgate's own to a backend that clients could not reach. They decide when clients are
//! sent there again, so that no client has to try.

use crate::{
    net::{descriptors::DescriptorBudget, resolver::Resolver},
    observe::logging::ErrorChain,
    upstream::health::check::HealthCheck,
};
use std::{future::pending, sync::Arc};
use tokio::{
    sync::watch,
    time::{Instant, sleep_until},
};
use tracing::debug;

/// Probes a backend whenever its health requires it, until the sender of `check_rx` is dropped.
pub(crate) async fn probe_loop(
    mut check_rx: watch::Receiver<HealthCheck>,
    resolver: &Resolver,
    descriptors: &Arc<DescriptorBudget>,
) {
    let backend = check_rx.borrow().backend().clone();
    let health = backend.health();
    loop {
        let due = health.probe_due();
        tokio::select! {
            () = sleep_until_some(due) => {}
            () = health.probe_changed.notified() => continue,
            changed = check_rx.changed() => match changed {
                Ok(()) => continue,
                Err(_) => return,
            }
        }
        let health_check = check_rx.borrow().clone();
        // Boxed: it runs seldom, and the task exists for every backend.
        let connected = Box::pin(health_check.connect(resolver, descriptors)).await;
        if check_rx.has_changed().is_err() {
            return;
        }
        match connected {
            Ok(()) => {
                backend.record_connected();
                health.record_probe(health_check.passive(), Ok(()));
            }
            // Nothing is known about the backend.
            Err(error) if error.is_exhaustion() => health.postpone_probe(),
            Err(error) => {
                let why = ErrorChain(&error).to_string();
                debug!(backend = %backend.name(), error = %why, "connect probe failed");
                health.record_probe(health_check.passive(), Err((why, error.is_timeout())));
            }
        }
    }
}

/// Sleeps until `when`; without limit if that is `None`.
pub(crate) async fn sleep_until_some(when: Option<Instant>) {
    match when {
        Some(when) => sleep_until(when).await,
        None => pending().await,
    }
}
