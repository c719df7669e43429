//! The state of one host: its certificate and its order history.

use crate::{
    config::Challenge,
    lifecycle::command::{CertificateStatus, RenewalError},
    net::random::fraction,
    tls::{
        acme::{
            cert_chain::CertChain,
            client::AcmeClient,
            error::{AcmeError, UnusableReason},
            schedule::{OrderHistory, renewal},
        },
        x509::{CertInfo, date},
    },
};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;
use tracing::{error, info, warn};

pub(crate) struct AcmeHost {
    pub(crate) name: Box<str>,
    pub(crate) challenge: Challenge,
    /// Wakes the renewal loop before its next scheduled check.
    pub(crate) wake: Notify,
    /// Cancelled once no route names the host.
    pub(crate) removed: CancellationToken,
    state: Mutex<HostState>,
}

#[derive(Default)]
struct HostState {
    /// Describes the served ACME certificate; `None` while there is none.
    cert_info: Option<CertInfo>,
    history: OrderHistory,
    /// True if an operator has requested a renewal.
    renewal_requested: bool,
    ordering: bool,
    /// The number of consecutive failures to read the certificate from the store.
    read_failures: u32,
}

// === impl AcmeHost ===

impl AcmeHost {
    /// Creates the host and serves its certificate from the store, if there is one. May block.
    pub(crate) fn open(client: &AcmeClient, name: &str, challenge: Challenge) -> AcmeHost {
        let host = AcmeHost {
            name: name.into(),
            challenge,
            wake: Notify::new(),
            removed: CancellationToken::new(),
            state: Mutex::default(),
        };
        host.read(client);
        host
    }

    /// Reads the order history and the certificate, and serves the certificate. May block.
    pub(crate) fn read(&self, client: &AcmeClient) {
        match client.store.load(&self.history_file()) {
            Ok(Some(text)) => match serde_json::from_slice::<OrderHistory>(&text) {
                Ok(mut history) => {
                    // The backoff is not restored, because the cause of the failure may be fixed; the CA's delay is.
                    history.next_attempt = history.held_until;
                    self.state().history = history;
                }
                Err(error) => client
                    .store
                    .quarantine(&self.history_file(), &error.to_string()),
            },
            Ok(None) => {}
            Err(error) => {
                warn!(host = %self.name, %error, "cannot read the order history of a host")
            }
        }
        match client.store.load(&self.cert_file()) {
            Ok(Some(pem)) => match CertChain::parse(&pem, &self.name) {
                Ok(chain) => self.serve(client, chain),
                Err(error) => client
                    .store
                    .quarantine(&self.cert_file(), &error.to_string()),
            },
            Ok(None) => {}
            Err(error) => {
                let location = client.store.location();
                error!(host = %self.name, %location, %error, "cannot read the certificate of a host");
                self.state().read_failures += 1;
                return;
            }
        }
        self.state().read_failures = 0;
    }

    /// Serves this certificate from the next TLS handshake on, unless the host has been removed.
    pub(crate) fn serve(&self, client: &AcmeClient, chain: CertChain) {
        // The call of the store may have ended after the host was removed, and its name may be configured again.
        if self.removed.is_cancelled() {
            return;
        }
        client.issued.insert(&self.name, chain.key);
        client
            .metrics
            .set_certificate_expiry(&self.name, chain.cert_info.not_after);
        self.state().cert_info = Some(chain.cert_info);
    }

    /// Returns true if an ACME certificate of the host is served.
    pub(crate) fn is_served(&self) -> bool {
        self.state().cert_info.is_some()
    }

    /// Returns the time of the next order in seconds since 1970; a time in the past means that the order is due.
    pub(crate) fn due(&self, client: &AcmeClient, now: i64) -> i64 {
        let state = self.state();
        if state.renewal_requested {
            return state.history.budget_exhausted_until(now).unwrap_or(now);
        }
        let due = state
            .cert_info
            .as_ref()
            .map(|cert_info| self.renewal(cert_info));
        due.max(state.history.blocked_until(now, client.retry))
            .unwrap_or(now)
    }

    fn renewal(&self, cert_info: &CertInfo) -> i64 {
        renewal(cert_info.not_before, cert_info.not_after, &self.name)
    }

    /// Returns true if the store could not be read, but too few times to treat it as empty.
    pub(crate) fn must_retry_read(&self) -> bool {
        (1..MAX_STORE_READS).contains(&self.state().read_failures)
    }

    /// Requests a renewal for an operator.
    ///
    /// # Errors
    /// Returns an error if the renewal is not due and a certificate was issued within a day.
    pub(crate) fn request_renewal(&self, now: i64) -> Result<(), RenewalError> {
        let mut state = self.state();
        let is_due = match &state.cert_info {
            Some(cert_info) => self.renewal(cert_info) <= now,
            None => true,
        };
        if !is_due && state.history.issued_within_a_day(now) {
            return Err(RenewalError::IssuedRecently(self.name.clone()));
        }
        state.renewal_requested = true;
        drop(state);
        self.wake.notify_one();
        Ok(())
    }

    /// Marks the host as ordering until the returned guard is dropped.
    pub(crate) fn ordering(self: &Arc<Self>) -> OrderGuard {
        self.state().ordering = true;
        OrderGuard(self.clone())
    }

    /// Saves and serves an issued certificate, and records the success. May block.
    ///
    /// # Errors
    /// Fails if the certificate cannot be used, or is not valid for longer than the current one.
    pub(crate) fn succeed(&self, client: &AcmeClient, pem: &[u8]) -> Result<(), AcmeError> {
        let chain = CertChain::parse(pem, &self.name);
        let chain = chain.map_err(|error| AcmeError::Unusable(error.into()))?;
        let (now, not_after) = (client.now(), chain.cert_info.not_after);
        let current_not_after = self
            .state()
            .cert_info
            .as_ref()
            .map(|cert_info| cert_info.not_after);
        // Only a certificate that is valid for longer replaces the current one.
        if not_after <= now.max(current_not_after.unwrap_or(i64::MIN)) {
            return Err(AcmeError::Unusable(UnusableReason::Expiry { not_after }));
        }
        let shown = date(not_after);
        // Saved before it is served: a process that takes over looks for the served certificate in the store.
        client.store.save(&self.cert_file(), pem);
        self.update_history(client, |history| {
            history.succeed(now, not_after, client.retry)
        });
        info!(host = %self.name, issuer = %chain.cert_info.issuer, not_after = %shown, "a new certificate is served");
        self.serve(client, chain);
        client.metrics.count_order("issued");
        Ok(())
    }

    /// Records a failed order, which delays the next one, and logs it. May block.
    pub(crate) fn fail(&self, client: &AcmeClient, failure: AcmeError) {
        let now = client.now();
        let record = failure.to_history();
        let reason = record.text.clone();
        self.update_history(client, |history| {
            history.fail(now, record, client.retry, fraction())
        });
        client.metrics.count_order("failed");
        let state = self.state();
        let left = state
            .cert_info
            .as_ref()
            .map(|cert_info| cert_info.not_after - now);
        let next_attempt = state
            .history
            .blocked_until(now, client.retry)
            .unwrap_or(now);
        let next_attempt = date(client.ca.clock.to_local(next_attempt));
        match left {
            Some(left) if left > DAY => {
                let expires_in_days = left / DAY;
                warn!(host = %self.name, %reason, %next_attempt, expires_in_days, "certificate renewal failed; the current certificate is still valid");
            }
            Some(left) => {
                error!(host = %self.name, %reason, %next_attempt, expires_in_hours = left / 3600, "certificate renewal failed; the current certificate has expired or is about to expire");
            }
            None => {
                error!(host = %self.name, %reason, %next_attempt, "certificate order failed; the host has no certificate")
            }
        }
    }

    /// Updates and saves the order history, and clears a requested renewal. May block.
    fn update_history(&self, client: &AcmeClient, update: impl FnOnce(&mut OrderHistory)) {
        let text = {
            let mut state = self.state();
            update(&mut state.history);
            state.renewal_requested = false;
            serde_json::to_vec(&state.history).expect("the history has only numbers and strings")
        };
        client.store.save(&self.history_file(), &text);
    }

    /// Returns the status as `lockgate cert list` displays it.
    pub(crate) fn status(&self, client: &AcmeClient) -> CertificateStatus {
        let state = self.state();
        let now = client.now();
        let due = state
            .cert_info
            .as_ref()
            .map(|cert_info| self.renewal(cert_info));
        let next = due
            .max(state.history.blocked_until(now, client.retry))
            .unwrap_or(now);
        let next = (!state.ordering).then_some(next);
        let cert_info = state.cert_info.as_ref();
        CertificateStatus {
            host: self.name.to_string(),
            source: "acme",
            from: client.ca.directory.clone(),
            issuer: cert_info.map(|cert_info| cert_info.issuer.clone()),
            names: cert_info.map_or_else(Vec::new, |cert_info| {
                cert_info
                    .names
                    .iter()
                    .map(|name| name.to_string())
                    .collect()
            }),
            not_before: cert_info.map(|cert_info| date(cert_info.not_before)),
            not_after: cert_info.map(|cert_info| date(cert_info.not_after)),
            ordering: state.ordering,
            next_attempt: next.map(|next| date(client.ca.clock.to_local(next))),
            error: state
                .history
                .last_error
                .clone()
                .or_else(|| client.last_error()),
            warning: None,
        }
    }

    fn cert_file(&self) -> String {
        format!("{}.pem", self.name.replace('*', "_wildcard"))
    }

    fn history_file(&self) -> String {
        format!("{}.json", self.name.replace('*', "_wildcard"))
    }

    fn state(&self) -> MutexGuard<'_, HostState> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A guard for an order in progress.
pub(crate) struct OrderGuard(Arc<AcmeHost>);

// === impl OrderGuard ===

impl Drop for OrderGuard {
    fn drop(&mut self) {
        self.0.state().ordering = false;
    }
}

const DAY: i64 = 24 * 60 * 60;

/// The number of failed reads of the store after which a new certificate is ordered.
const MAX_STORE_READS: u32 = 4;
