//! Periodic maintenance for all hosts together.

use std::sync::Arc;
use std::time::Duration;

use tokio::time::{Instant, sleep};
use tracing::debug;

use super::agency::AcmeClient;

/// Every minute, or at the retry interval of orders, retries failed writes, and the lock if another process holds it.
/// Twice a day requests the time from the CA: otherwise a clock in the past would let certificates expire unnoticed.
pub(super) async fn maintenance_loop(agency: Arc<AcmeClient>) {
    let mut asked: Option<Instant> = None;
    loop {
        if asked.is_none_or(|asked| asked.elapsed() >= CLOCK_CHECK_INTERVAL)
            && agency.try_become_leader()
        {
            let ca = &agency.ca;
            match ca.clock.ask(&ca.web, &ca.directory).await {
                Ok(()) => asked = Some(Instant::now()),
                Err(failure) => debug!(reason = %failure, "cannot get the time from the CA"),
            }
        }
        sleep(agency.retry.min(MINUTE)).await;
        if agency.try_become_leader() {
            agency.store.flush();
        }
    }
}

const MINUTE: Duration = Duration::from_secs(60);
const CLOCK_CHECK_INTERVAL: Duration = Duration::from_secs(12 * 60 * 60);
