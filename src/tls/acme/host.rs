//! The state of one host: its certificate and its order history.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;
use tracing::{error, info, warn};

use super::agency::AcmeClient;
use super::bundle::CertChain;
use super::failure::AcmeError;
use super::pace::{OrderHistory, renewal};
use crate::config::Challenge;
use crate::lifecycle::CertificateStatus;
use crate::tls::x509::CertInfo;

pub(super) struct AcmeHost {
    pub(super) name: Box<str>,
    pub(super) challenge: Challenge,
    /// Wakes the renewal loop before its next scheduled check.
    pub(super) wake: Notify,
    /// Cancelled once no route names the host.
    pub(super) removed: CancellationToken,
    standing: Mutex<HostState>,
}

#[derive(Default)]
struct HostState {
    /// The facts of the served certificate; `None` while a self-signed one is served.
    facts: Option<CertInfo>,
    history: OrderHistory,
    /// True if an operator has requested a renewal.
    asked: bool,
    ordering: bool,
    /// The number of consecutive failures to read the store.
    unread: u32,
}

// === impl AcmeHost ===

impl AcmeHost {
    /// Creates the host and serves its certificate from the store, if there is one.
    pub(super) fn open(agency: &AcmeClient, name: &str, challenge: Challenge) -> AcmeHost {
        let host = AcmeHost {
            name: name.into(),
            challenge,
            wake: Notify::new(),
            removed: CancellationToken::new(),
            standing: Mutex::default(),
        };
        host.read(agency);
        host
    }

    /// Reads the certificate and the order history. Returns true if the certificate was read or does not exist.
    pub(super) fn read(&self, agency: &AcmeClient) -> bool {
        match agency.store.load(&self.ledger_file()) {
            Ok(Some(text)) => match serde_json::from_slice::<OrderHistory>(&text) {
                Ok(mut ledger) => {
                    // The first attempt after a restart is not delayed: the cause of the failure may be fixed.
                    ledger.next_attempt = ledger.held_until;
                    self.standing().history = ledger;
                }
                Err(error) => agency
                    .store
                    .set_aside(&self.ledger_file(), &error.to_string()),
            },
            Ok(None) => {}
            Err(error) => {
                warn!(host = %self.name, %error, "the order history of this host cannot be read")
            }
        }
        match agency.store.load(&self.file()) {
            Ok(Some(pem)) => match CertChain::parse(&pem, &self.name) {
                Ok(bundle) => self.serve(agency, bundle),
                Err(error) => agency.store.set_aside(&self.file(), &error.to_string()),
            },
            Ok(None) => {}
            Err(error) => {
                let place = agency.store.place();
                error!(host = %self.name, %error, "its certificate in {place} cannot be read");
                self.standing().unread += 1;
                return false;
            }
        }
        self.standing().unread = 0;
        true
    }

    /// Serves this certificate from the next TLS handshake on.
    pub(super) fn serve(&self, agency: &AcmeClient, bundle: CertChain) {
        agency.shelf.insert(&self.name, bundle.key);
        agency
            .metrics
            .certificate(&self.name, bundle.facts.not_after);
        self.standing().facts = Some(bundle.facts);
    }

    /// Returns true if the host is served with a certificate of its own.
    pub(super) fn is_served(&self) -> bool {
        self.standing().facts.is_some()
    }

    /// Returns the time of the next order in seconds since 1970; a time in the past means that the order is due.
    pub(super) fn due(&self, now: i64) -> i64 {
        let standing = self.standing();
        if standing.asked {
            return standing.history.budget_exhausted_until(now).unwrap_or(now);
        }
        let due = standing.facts.as_ref().map(|facts| self.renewal(facts));
        due.max(standing.history.blocked_until(now)).unwrap_or(now)
    }

    fn renewal(&self, facts: &CertInfo) -> i64 {
        renewal(facts.not_before, facts.not_after, &self.name)
    }

    /// Returns true if the store could not be read, but too few times to treat it as empty.
    pub(super) fn is_unread(&self) -> bool {
        (1..MAX_STORE_READS).contains(&self.standing().unread)
    }

    /// Requests a renewal for an operator. Refused if the renewal is not due and a certificate was issued within a day.
    pub(super) fn request_renewal(&self, now: i64) -> Result<(), String> {
        let mut standing = self.standing();
        let is_due = match &standing.facts {
            Some(facts) => self.renewal(facts) <= now,
            None => true,
        };
        if !is_due && standing.history.issued_lately(now) {
            return Err(format!(
                "{} received a certificate within the last day; CAs limit certificates for the same name",
                self.name
            ));
        }
        standing.asked = true;
        drop(standing);
        self.wake.notify_one();
        Ok(())
    }

    /// Marks the host as ordering until the returned guard is dropped.
    pub(super) fn ordering(self: &Arc<Self>) -> OrderGuard {
        self.standing().ordering = true;
        OrderGuard(self.clone())
    }

    pub(super) fn succeed(&self, agency: &AcmeClient, pem: &[u8]) -> Result<(), AcmeError> {
        let bundle = CertChain::parse(pem, &self.name);
        let bundle = bundle.map_err(|error| AcmeError::Unusable(error.to_string()))?;
        let (now, not_after) = (agency.now(), bundle.facts.not_after);
        let held = self.standing().facts.as_ref().map(|facts| facts.not_after);
        // Only a certificate that is valid for longer replaces the current one.
        if not_after <= now.max(held.unwrap_or(i64::MIN)) {
            let text = format!("it is valid only until {}", date(not_after));
            return Err(AcmeError::Unusable(text));
        }
        let shown = date(not_after);
        // Saved before it is served: a process that takes over looks for the served certificate in the store.
        agency.store.save(&self.file(), pem);
        self.note(agency, |ledger| {
            ledger.succeed(now, not_after, agency.retry)
        });
        info!(host = %self.name, issuer = %bundle.facts.issuer, not_after = %shown, "a new certificate is served");
        self.serve(agency, bundle);
        agency.metrics.order("issued");
        Ok(())
    }

    pub(super) fn fail(&self, agency: &AcmeClient, failure: AcmeError) {
        let now = agency.now();
        let mut chance = [0; 1];
        // Without jitter hosts would retry at the same time, which is no reason to fail.
        let _ = getrandom::fill(&mut chance);
        let chance = f64::from(chance[0]) / 255.0;
        let told = failure.to_history();
        self.note(agency, |ledger| {
            ledger.fail(now, told, agency.retry, chance)
        });
        agency.metrics.order("failed");
        let standing = self.standing();
        let left = standing.facts.as_ref().map(|facts| facts.not_after - now);
        let next_attempt = standing.history.blocked_until(now).unwrap_or(now);
        let next_attempt = date(agency.ca.clock.to_local(next_attempt));
        match left {
            Some(left) if left > DAY => {
                let expires_in_days = left / DAY;
                warn!(host = %self.name, reason = %failure, %next_attempt, expires_in_days, "no new certificate; the one in use is still valid");
            }
            Some(left) => {
                error!(host = %self.name, reason = %failure, %next_attempt, expires_in_hours = left / 3600, "no new certificate, and the one in use is about to expire");
            }
            None => error!(host = %self.name, reason = %failure, %next_attempt, "no certificate"),
        }
    }

    /// Updates and saves the order history, and clears a requested renewal.
    fn note(&self, agency: &AcmeClient, happened: impl FnOnce(&mut OrderHistory)) {
        let text = {
            let mut standing = self.standing();
            happened(&mut standing.history);
            standing.asked = false;
            serde_json::to_vec(&standing.history).expect("a ledger is numbers and strings")
        };
        agency.store.save(&self.ledger_file(), &text);
    }

    /// Returns the status as `lockgate cert list` displays it.
    pub(super) fn status(&self, agency: &AcmeClient) -> CertificateStatus {
        let standing = self.standing();
        let now = agency.now();
        let due = standing.facts.as_ref().map(|facts| self.renewal(facts));
        let next = due.max(standing.history.blocked_until(now)).unwrap_or(now);
        let next = (!standing.ordering).then_some(next);
        let facts = standing.facts.as_ref();
        CertificateStatus {
            host: self.name.to_string(),
            source: "acme",
            from: agency.ca.directory.clone(),
            issuer: facts.map(|facts| facts.issuer.clone()),
            names: facts.map_or_else(Vec::new, |facts| {
                facts.names.iter().map(|name| name.to_string()).collect()
            }),
            not_after: facts.map(|facts| date(facts.not_after)),
            ordering: standing.ordering,
            next_attempt: next.map(|next| date(agency.ca.clock.to_local(next))),
            error: standing
                .history
                .last_error
                .clone()
                .or_else(|| agency.last_error()),
        }
    }

    fn file(&self) -> String {
        format!("{}.pem", self.name.replace('*', "_wildcard"))
    }

    fn ledger_file(&self) -> String {
        format!("{}.json", self.name.replace('*', "_wildcard"))
    }

    fn standing(&self) -> MutexGuard<'_, HostState> {
        self.standing.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A guard for an order in progress.
pub(super) struct OrderGuard(Arc<AcmeHost>);

// === impl OrderGuard ===

impl Drop for OrderGuard {
    fn drop(&mut self) {
        self.0.standing().ordering = false;
    }
}

/// Formats seconds since 1970 as RFC 3339.
pub(in crate::tls) fn date(seconds: i64) -> String {
    let seconds = u64::try_from(seconds).unwrap_or(0).min(LAST_DATE);
    let time = std::time::UNIX_EPOCH + std::time::Duration::from_secs(seconds);
    humantime::format_rfc3339_seconds(time).to_string()
}

const DAY: i64 = 24 * 60 * 60;
/// The last second of the year 9999.
const LAST_DATE: u64 = 253_402_300_799;
/// The number of failed reads of the store after which a new certificate is ordered.
const MAX_STORE_READS: u32 = 4;
