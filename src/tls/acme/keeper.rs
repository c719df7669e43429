//! The renewal loop of one host: waits until an order is due, orders, saves and serves the certificate.

use std::sync::Arc;
use std::time::Duration;

use tokio::time::sleep;
use tracing::debug;

use super::agency::AcmeClient;
use super::failure::AcmeError;
use super::host::AcmeHost;
use super::wish::OrderRequest;

/// Runs until the host is removed.
pub(super) async fn renewal_loop(agency: Arc<AcmeClient>, host: Arc<AcmeHost>) {
    tokio::select! {
        () = host.removed.cancelled() => {}
        () = renew(&agency, &host) => {}
    }
}

async fn renew(agency: &AcmeClient, host: &Arc<AcmeHost>) {
    loop {
        let now = agency.now();
        match u64::try_from(host.due(now).saturating_sub(now)) {
            Ok(wait @ 1..) => {
                // Sleeps in short steps, because the clock may be set and the machine may be suspended.
                let step = Duration::from_secs(wait).min(STEP);
                tokio::select! {
                    () = sleep(step) => {}
                    () = host.wake.notified() => {}
                }
            }
            _ => attempt(agency, host).await,
        }
    }
}

async fn attempt(agency: &AcmeClient, host: &Arc<AcmeHost>) {
    if !agency.try_become_leader() || host.is_unread() {
        // Reads what the other process obtained, or what has become readable.
        sleep(agency.retry).await;
        host.read(agency);
        return;
    }
    let _turn = agency.order_slot().await;
    let _ordering = host.ordering();
    if let Err(failure) = order(agency, host).await {
        host.fail(agency, failure);
    }
}

async fn order(agency: &AcmeClient, host: &AcmeHost) -> Result<(), AcmeError> {
    let ca = &agency.ca;
    ca.clock.ask(&ca.web, &ca.directory).await?;
    let now = agency.now();
    if host.due(now) > now {
        debug!(host = %host.name, "not due by the CA's clock");
        return Ok(());
    }
    let wish = OrderRequest {
        name: host.name.clone(),
        challenge: host.challenge,
        account: agency.account().await?,
        ca: ca.clone(),
        shelf: agency.shelf.clone(),
    };
    let pem = wish.issue().await?;
    match host.removed.is_cancelled() {
        // The host was removed; its name may have been configured again, with another task.
        true => Ok(()),
        false => host.succeed(agency, &pem),
    }
}

const STEP: Duration = Duration::from_secs(60 * 60);
