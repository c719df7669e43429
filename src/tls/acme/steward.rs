//! Periodic maintenance for all hosts together.

use std::sync::Arc;
use std::time::Duration;

use tokio::time::{Instant, sleep};
use tracing::debug;

use super::agency::AcmeClient;

/// Retries failed writes, and the lock if another process holds it: every minute, or at the retry interval of orders if
/// it is shorter. Queries the CA for the time twice a day: otherwise a clock in the past would let certificates expire
/// unnoticed.
pub(super) async fn maintenance_loop(client: Arc<AcmeClient>) {
    let mut last_check: Option<Instant> = None;
    loop {
        if last_check.is_none_or(|last_check| last_check.elapsed() >= CLOCK_CHECK_INTERVAL)
            && client.try_become_leader()
        {
            let ca = &client.ca;
            match ca.clock.query(&ca.https, &ca.directory).await {
                Ok(()) => last_check = Some(Instant::now()),
                Err(failure) => debug!(reason = %failure, "cannot get the time from the CA"),
            }
        }
        sleep(client.retry.min(MINUTE)).await;
        if client.try_become_leader() {
            client.store.flush();
        }
    }
}

const MINUTE: Duration = Duration::from_secs(60);
const CLOCK_CHECK_INTERVAL: Duration = Duration::from_secs(12 * 60 * 60);
