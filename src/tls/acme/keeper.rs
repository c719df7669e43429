//! The renewal loop of one host: waits until an order is due, then orders, saves and serves the certificate.

use std::sync::Arc;
use std::time::Duration;

use tokio::time::sleep;
use tracing::debug;

use super::agency::AcmeClient;
use super::failure::AcmeError;
use super::host::AcmeHost;
use super::wish::OrderRequest;

/// Runs until the host is removed.
pub(super) async fn renewal_loop(client: Arc<AcmeClient>, host: Arc<AcmeHost>) {
    tokio::select! {
        () = host.removed.cancelled() => {}
        () = renew(&client, &host) => {}
    }
}

async fn renew(client: &AcmeClient, host: &Arc<AcmeHost>) {
    loop {
        let now = client.now();
        match u64::try_from(host.due(now).saturating_sub(now)) {
            Ok(wait @ 1..) => {
                // Sleeps in short steps, because the clock may be set and the machine may be suspended.
                let step = Duration::from_secs(wait).min(MAX_SLEEP);
                tokio::select! {
                    () = sleep(step) => {}
                    () = host.wake.notified() => {}
                }
            }
            _ => attempt(client, host).await,
        }
    }
}

async fn attempt(client: &AcmeClient, host: &Arc<AcmeHost>) {
    if !client.try_become_leader() || host.must_retry_read() {
        // Another process may have obtained a certificate, or the store may have become readable.
        sleep(client.retry).await;
        host.read(client);
        return;
    }
    let _slot = client.order_slot().await;
    let _ordering = host.ordering();
    if let Err(failure) = order(client, host).await {
        host.fail(client, failure);
    }
}

async fn order(client: &AcmeClient, host: &AcmeHost) -> Result<(), AcmeError> {
    let ca = &client.ca;
    ca.clock.query(&ca.https, &ca.directory).await?;
    let now = client.now();
    if host.due(now) > now {
        debug!(host = %host.name, "not due by the CA's clock");
        return Ok(());
    }
    let request = OrderRequest {
        name: host.name.clone(),
        challenge: host.challenge,
        account: client.account().await?,
        ca: ca.clone(),
        issued: client.issued.clone(),
    };
    let pem = request.issue().await?;
    // If the host was removed during the order, its name may be configured again, with another task.
    if host.removed.is_cancelled() {
        return Ok(());
    }
    host.succeed(client, &pem)
}

const MAX_SLEEP: Duration = Duration::from_secs(60 * 60);
