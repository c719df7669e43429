//! The loops of ACME. One per host waits until an order is due, then orders, saves and serves the certificate; one for
//! all hosts retries failed writes and checks the clock.

use crate::{
    observe::logging::ErrorChain,
    tls::acme::{
        client::AcmeClient, error::AcmeError, host::AcmeHost, issuer, order::OrderRequest,
    },
};
use std::{io, sync::Arc, time::Duration};
use tokio::time::{Instant, sleep};
use tracing::debug;

/// Renews the certificate of a host until the host is removed.
pub(crate) async fn renewal_loop(client: Arc<AcmeClient>, host: Arc<AcmeHost>) {
    tokio::select! {
        () = host.removed.cancelled() => {}
        () = renew(&client, &host) => {}
    }
}

async fn renew(client: &Arc<AcmeClient>, host: &Arc<AcmeHost>) {
    loop {
        let now = client.now();
        match u64::try_from(host.due(client, now).saturating_sub(now)) {
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

async fn attempt(client: &Arc<AcmeClient>, host: &Arc<AcmeHost>) {
    if !client.try_become_leader().await || host.must_retry_read() {
        // Another process may have obtained a certificate, or the store may have become readable.
        sleep(client.retry).await;
        let host = host.clone();
        // A read that panics is repeated after the same time.
        let _ = client.with_store(move |client| host.read(client)).await;
        return;
    }
    let _slot = client.order_slot().await;
    let _ordering = host.ordering();
    if let Err(failure) = order(client, host).await {
        let host = host.clone();
        let recorded = client.with_store(move |client| host.fail(client, failure));
        if recorded.await.is_err() {
            // The next attempt is not delayed by the history.
            sleep(client.retry).await;
        }
    }
}

async fn order(client: &Arc<AcmeClient>, host: &Arc<AcmeHost>) -> Result<(), AcmeError> {
    let ca = &client.ca;
    ca.clock.query(&ca.https, &ca.directory).await?;
    let now = client.now();
    if host.due(client, now) > now {
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
    let pem = issuer::issue(&request).await?;
    // If the host was removed during the order, its name may be configured again, with another task.
    if host.removed.is_cancelled() {
        return Ok(());
    }
    let host = host.clone();
    let saved = client.with_store(move |client| host.succeed(client, &pem));
    saved.await.unwrap_or_else(|error| {
        Err(AcmeError::Store {
            location: client.store.location(),
            source: io::Error::other(error),
        })
    })
}

/// Retries failed writes, and the lock if another process holds it: every minute, or at the retry interval of orders if
/// it is shorter. Queries the CA for the time twice a day: otherwise a clock in the past would let certificates expire
/// unnoticed.
pub(crate) async fn maintenance_loop(client: Arc<AcmeClient>) {
    let mut last_check: Option<Instant> = None;
    loop {
        if last_check.is_none_or(|last_check| last_check.elapsed() >= CLOCK_CHECK_INTERVAL)
            && client.try_become_leader().await
        {
            let ca = &client.ca;
            match ca.clock.query(&ca.https, &ca.directory).await {
                Ok(()) => last_check = Some(Instant::now()),
                Err(failure) => {
                    debug!(reason = %ErrorChain(&failure), "cannot get the time from the CA")
                }
            }
        }
        sleep(client.retry.min(MINUTE)).await;
        if client.try_become_leader().await {
            // A write that panics is repeated in a minute.
            let _ = client.with_store(|client| client.store.flush()).await;
        }
    }
}

const MAX_SLEEP: Duration = Duration::from_secs(60 * 60);

const MINUTE: Duration = Duration::from_secs(60);

const CLOCK_CHECK_INTERVAL: Duration = Duration::from_secs(12 * 60 * 60);
