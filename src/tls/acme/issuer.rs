//! The choice of the library that orders a certificate, and the time limit of an order.

use crate::{
    config::Challenge,
    tls::acme::{error::AcmeError, instant_acme, order::OrderRequest, rustls_acme},
};
use std::time::Duration;
use tokio::time::timeout;
use tracing::debug;

/// Orders the certificate and returns the key and the chain in PEM. Uses `rustls-acme`, except for DNS-01, for bound
/// accounts, after a rejected nonce, if the C library does not find the CA, and if an address of the CA does not
/// answer: these need `instant-acme`. It repeats only the rejected request, whereas `rustls-acme` restarts the order,
/// and it resolves names and connects as all of Lockgate does.
pub(crate) async fn issue(request: &OrderRequest) -> Result<Vec<u8>, AcmeError> {
    let limit = match request.challenge {
        Challenge::Dns01 => DNS_ORDER_TIMEOUT,
        Challenge::TlsAlpn01 | Challenge::Http01 => ORDER_TIMEOUT,
    };
    let issued = timeout(limit, order(request)).await;
    issued.unwrap_or(Err(AcmeError::Timeout(limit)))
}

async fn order(request: &OrderRequest) -> Result<Vec<u8>, AcmeError> {
    if request.challenge == Challenge::Dns01 || request.ca.eab.is_some() {
        return instant_acme::issue(request).await;
    }
    let ca = &request.ca;
    let unusable = match ca.https.is_resolved_by_c_library(&ca.directory).await {
        false => Some("the C library does not find the CA"),
        true if ca.https.has_silent_address(&ca.directory).await => {
            Some("an address of the CA does not answer")
        }
        true => None,
    };
    if let Some(reason) = unusable {
        debug!(host = %request.name, reason, "ordering by instant-acme");
        return instant_acme::issue(request).await;
    }
    match rustls_acme::issue(request).await {
        Err(AcmeError::BadNonce(problem)) => {
            debug!(host = %request.name, %problem, "nonce rejected; ordering again by instant-acme");
            instant_acme::issue(request).await
        }
        issued => issued,
    }
}

/// Five validation attempts of a CA take half a minute, and `rustls-acme` has no deadline.
const ORDER_TIMEOUT: Duration = Duration::from_secs(300);

/// Includes two runs of a DNS hook, which have their own timeout.
const DNS_ORDER_TIMEOUT: Duration = Duration::from_secs(900);
