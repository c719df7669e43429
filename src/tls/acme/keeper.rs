//! The life of a host's certificate: wait until it is due, order, serve, keep; and again, for years.

use std::sync::Arc;
use std::time::Duration;

use tokio::time::sleep;
use tracing::debug;

use super::agency::Agency;
use super::failure::Failure;
use super::host::Host;
use super::wish::Wish;

/// Until the host is gone.
pub(super) async fn keep(agency: Arc<Agency>, host: Arc<Host>) {
    tokio::select! {
        () = host.gone.cancelled() => {}
        () = renew(&agency, &host) => {}
    }
}

async fn renew(agency: &Agency, host: &Arc<Host>) {
    loop {
        let now = agency.now();
        match u64::try_from(host.due(now).saturating_sub(now)) {
            Ok(wait @ 1..) => {
                // In short steps: the clock may be set, and the machine may sleep.
                let step = Duration::from_secs(wait).min(STEP);
                tokio::select! {
                    () = sleep(step) => {}
                    () = host.nudge.notified() => {}
                }
            }
            _ => attempt(agency, host).await,
        }
    }
}

async fn attempt(agency: &Agency, host: &Arc<Host>) {
    if !agency.orders() || host.is_unread() {
        // What the other process got, or what can be read by now.
        sleep(agency.retry).await;
        host.read(agency);
        return;
    }
    let _turn = agency.turn().await;
    let _ordering = host.ordering();
    if let Err(failure) = order(agency, host).await {
        host.fail(agency, failure);
    }
}

async fn order(agency: &Agency, host: &Host) -> Result<(), Failure> {
    let ca = &agency.ca;
    ca.clock.ask(&ca.web, &ca.directory).await?;
    let now = agency.now();
    if host.due(now) > now {
        debug!(host = %host.name, "not due by the CA's clock");
        return Ok(());
    }
    let wish = Wish {
        name: host.name.clone(),
        challenge: host.challenge,
        account: agency.account().await?,
        ca: ca.clone(),
        shelf: agency.shelf.clone(),
    };
    let pem = wish.come_true().await?;
    match host.gone.is_cancelled() {
        // Nobody's any more; what it was for may be back, and kept by another.
        true => Ok(()),
        false => host.succeed(agency, &pem),
    }
}

const STEP: Duration = Duration::from_secs(60 * 60);
