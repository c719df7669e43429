//! What is done for all hosts together, every now and then.

use std::sync::Arc;
use std::time::Duration;

use tokio::time::{Instant, sleep};
use tracing::debug;

use super::agency::AcmeClient;

/// Every minute, or as often as orders are tried again, what could not be written is tried again, and the lock, if another process has it. Twice a day the CA is
/// asked for the time: a clock that stands in the past would else let certificates expire unnoticed.
pub(super) async fn maintenance_loop(agency: Arc<AcmeClient>) {
    let mut asked: Option<Instant> = None;
    loop {
        if asked.is_none_or(|asked| asked.elapsed() >= CLOCK_CHECK_INTERVAL)
            && agency.try_become_leader()
        {
            let ca = &agency.ca;
            match ca.clock.ask(&ca.web, &ca.directory).await {
                Ok(()) => asked = Some(Instant::now()),
                Err(failure) => debug!(reason = %failure, "the CA did not say what time it is"),
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
