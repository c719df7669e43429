//! Errors of an order, whichever library ran it.

use crate::{
    net::web_client::WebClientError,
    observe::logging::ErrorChain,
    tls::{acme::cert_chain::BadCertChain, x509::date},
};
use rustls_acme::{EventError, OrderError, acme::AuthStatus};
use serde::Deserialize;
use std::{convert::Infallible, fmt, io, path::PathBuf, process::ExitStatus, time::Duration};

/// An error of an order, by cause.
#[derive(Debug, thiserror::Error)]
pub(crate) enum AcmeError {
    /// The CA cannot be reached, or does not implement ACME.
    #[error(
        "the CA cannot be reached (allow connections to its port 443, and check acme.directory and acme.ca_file)"
    )]
    Unreachable(#[source] TransportError),
    /// The CA answered with a status from 500, or with an error status that no problem document explains.
    #[error("the CA answered with the status {status}{}", detail(.problem))]
    ErrorStatus {
        status: u16,
        problem: Option<Problem>,
        /// The earliest time of the next request, in seconds since 1970.
        retry_after: Option<i64>,
    },
    /// The CA could not validate the name: its query failed, or the response was wrong.
    #[error("the CA could not validate the name")]
    Invalid(#[source] InvalidReason),
    /// The CA's rate limit is exceeded.
    #[error("the CA's rate limit is exceeded{}", detail(.problem))]
    RateLimited {
        problem: Option<Problem>,
        /// The earliest time of the next request, in seconds since 1970.
        retry_after: i64,
    },
    /// The CA rejected a nonce that it had issued.
    #[error("the CA rejected a nonce that it had issued: {0}")]
    BadNonce(Problem),
    /// The CA refused for another reason.
    #[error("the CA refused")]
    Refused(#[source] RefusedReason),
    /// The order did not complete within its time limit.
    #[error("the order did not complete within {} s", .0.as_secs())]
    Timeout(Duration),
    /// A DNS hook program failed.
    #[error("{} failed", .program.display())]
    Hook {
        program: PathBuf,
        #[source]
        source: HookError,
    },
    /// A DNS-01 challenge without programs that answer it.
    #[error("acme.dns is not set")]
    NoHook,
    /// The issued certificate cannot be used.
    #[error("the CA's certificate cannot be used")]
    Unusable(#[source] UnusableReason),
    /// A key, a signing request or the certificate of a challenge cannot be created.
    #[error("cannot create a key or a request for a certificate")]
    Generate(#[from] GenerateError),
    /// The account key cannot be read from the store.
    #[error("{location} cannot be read")]
    Store {
        location: String,
        #[source]
        source: io::Error,
    },
}

/// Why no valid response of the CA has been received.
#[derive(Debug, thiserror::Error)]
pub(crate) enum TransportError {
    #[error(transparent)]
    Url(http::Error),
    #[error(transparent)]
    Https(#[from] WebClientError),
    #[error(transparent)]
    InstantAcme(instant_acme::Error),
    // The text of this error contains those of its sources.
    #[error("{0}")]
    RustlsAcme(rustls_acme::acme::AcmeError),
}

/// Why the CA could not validate a name.
#[derive(Debug, thiserror::Error)]
pub(crate) enum InvalidReason {
    #[error("{0}")]
    Problem(Problem),
    #[error("the authorization of {0} stayed pending")]
    Pending(String),
    #[error("the authorization is {0:?}")]
    Authorization(AuthStatus),
    #[error("the order became invalid; the CA gave no reason")]
    Unknown,
}

/// Why the CA refused.
#[derive(Debug, thiserror::Error)]
pub(crate) enum RefusedReason {
    #[error("{0}")]
    Problem(Problem),
    #[error("the authorization is {0:?}")]
    Authorization(instant_acme::AuthorizationStatus),
    #[error("it does not offer the challenge {challenge} for {name}")]
    NoChallenge {
        challenge: &'static str,
        name: Box<str>,
    },
    #[error("the order became invalid")]
    OrderInvalid,
}

/// Why an issued certificate cannot be used.
#[derive(Debug, thiserror::Error)]
pub(crate) enum UnusableReason {
    #[error(transparent)]
    Chain(#[from] BadCertChain),
    #[error("it is valid only until {}", date(*.not_after))]
    Expiry {
        /// The end of its validity, in seconds since 1970.
        not_after: i64,
    },
    // The text of this error contains those of its sources.
    #[error("{0}")]
    RustlsAcme(Box<EventError<Infallible, Infallible>>),
    #[error("rustls-acme returned no certificate")]
    Missing,
}

/// Why a key or a certificate of our own cannot be created.
#[derive(Debug, thiserror::Error)]
pub(crate) enum GenerateError {
    #[error(transparent)]
    Rcgen(#[from] rcgen::Error),
    #[error(transparent)]
    Rustls(#[from] rustls::Error),
    // The text of this error contains those of its sources.
    #[error("{0}")]
    RustlsAcme(Box<OrderError>),
}

/// Why a DNS hook program failed.
#[derive(Debug, thiserror::Error)]
pub(crate) enum HookError {
    /// The path cannot be made absolute.
    #[error(transparent)]
    Path(io::Error),
    #[error("it cannot be started")]
    Start(#[source] io::Error),
    #[error("it did not finish within {} s", .0.as_secs())]
    Timeout(Duration),
    #[error("{status}: {output}")]
    Exit { status: ExitStatus, output: String },
    /// The exit status cannot be read.
    #[error(transparent)]
    Wait(io::Error),
}

/// A problem document: the CA's reason (RFC 8555 §6.7).
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
pub(crate) struct Problem {
    /// A URN such as "urn:ietf:params:acme:error:rateLimited".
    #[serde(rename = "type")]
    pub(crate) kind: Option<String>,
    pub(crate) detail: Option<String>,
}

/// A failed order, as the history records it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct FailureRecord {
    /// The error text, with the CA's detail if there is one.
    pub(crate) text: String,
    /// True if the CA's validation of the name failed.
    pub(crate) invalid: bool,
    /// The earliest time of the next order according to the CA.
    pub(crate) held_until: Option<i64>,
}

// === impl AcmeError ===

impl AcmeError {
    /// Creates the error from a problem document, and the status of its response if it is known.
    pub(crate) fn from_problem(problem: Problem, status: Option<u16>, now: i64) -> AcmeError {
        match (problem.short_kind(), status) {
            ("rateLimited", _) | (_, Some(429)) => AcmeError::rate_limited(Some(problem), now),
            (_, Some(status @ 500..)) => AcmeError::ErrorStatus {
                status,
                problem: Some(problem),
                retry_after: None,
            },
            ("badNonce", _) => AcmeError::BadNonce(problem),
            // The types for a failed validation (RFC 8555 §6.7).
            ("connection" | "dns" | "unauthorized" | "incorrectResponse" | "tls" | "caa", _) => {
                AcmeError::Invalid(InvalidReason::Problem(problem))
            }
            _ => AcmeError::Refused(RefusedReason::Problem(problem)),
        }
    }

    /// Creates the error from a response with an error status.
    pub(crate) fn from_response(status: u16, body: &str, now: i64) -> AcmeError {
        match serde_json::from_str::<Problem>(body) {
            Ok(problem) => AcmeError::from_problem(problem, Some(status), now),
            Err(_) if status == 429 => AcmeError::rate_limited(None, now),
            Err(_) => AcmeError::ErrorStatus {
                status,
                problem: None,
                retry_after: None,
            },
        }
    }

    /// Creates a rate limit error. The time is the one in Let's Encrypt's text, otherwise one hour from now.
    fn rate_limited(problem: Option<Problem>, now: i64) -> AcmeError {
        let detail = problem
            .as_ref()
            .and_then(|problem| problem.detail.as_deref());
        AcmeError::RateLimited {
            retry_after: detail
                .and_then(parse_retry_after_text)
                .unwrap_or(now + 3600),
            problem,
        }
    }

    /// Applies the delay of a `Retry-After` header.
    pub(crate) fn with_retry_after(mut self, wait: Option<Duration>, now: i64) -> AcmeError {
        let wait = wait.and_then(|wait| i64::try_from(wait.as_secs()).ok());
        let time = wait.map(|wait| now.saturating_add(wait));
        match (&mut self, time) {
            (AcmeError::RateLimited { retry_after, .. }, Some(time)) => *retry_after = time,
            (AcmeError::ErrorStatus { retry_after, .. }, Some(time)) => *retry_after = Some(time),
            _ => {}
        }
        self
    }

    /// Returns the record for the order history.
    pub(crate) fn to_history(&self) -> FailureRecord {
        let (invalid, held_until) = match self {
            AcmeError::Invalid(_) => (true, None),
            AcmeError::RateLimited { retry_after, .. } => (false, Some(*retry_after)),
            AcmeError::ErrorStatus { retry_after, .. } => (false, *retry_after),
            _ => (false, None),
        };
        FailureRecord {
            text: ErrorChain(self).to_string(),
            invalid,
            held_until,
        }
    }
}

// === impl Problem ===

impl Problem {
    /// Returns the last part of the type, such as "rateLimited"; empty without a type.
    fn short_kind(&self) -> &str {
        let kind = self.kind.as_deref().unwrap_or_default();
        kind.rsplit(':').next().unwrap_or_default()
    }
}

impl From<instant_acme::Problem> for Problem {
    fn from(problem: instant_acme::Problem) -> Problem {
        Problem {
            kind: problem.r#type,
            detail: problem.detail,
        }
    }
}

impl From<rustls_acme::acme::Problem> for Problem {
    fn from(problem: rustls_acme::acme::Problem) -> Problem {
        Problem {
            kind: problem.typ,
            detail: problem.detail,
        }
    }
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (&self.detail, self.short_kind()) {
            (Some(detail), "") => f.write_str(detail),
            (Some(detail), kind) => write!(f, "{detail} ({kind})"),
            (None, "") => f.write_str("no reason given"),
            (None, kind) => f.write_str(kind),
        }
    }
}

/// Returns the text of an optional problem document after a clause.
fn detail(problem: &Option<Problem>) -> String {
    problem
        .as_ref()
        .map_or_else(String::new, |problem| format!(": {problem}"))
}

/// Parses the time in a text such as "…, retry after 2026-12-24 18:30:00 UTC: see https://…".
fn parse_retry_after_text(text: &str) -> Option<i64> {
    let (_, rest) = text.split_once("retry after ")?;
    let written = rest.get(..TIME_EXAMPLE.len())?;
    let time = humantime::parse_rfc3339(&format!("{}Z", written.replace(' ', "T"))).ok()?;
    let since = time.duration_since(std::time::UNIX_EPOCH).ok()?;
    i64::try_from(since.as_secs()).ok()
}

const TIME_EXAMPLE: &str = "2026-12-24 18:30:00";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn problem_detail_of_the_ca_is_kept() {
        let body = r#"{"type":"urn:ietf:params:acme:error:rateLimited","detail":"too many certificates, retry after 2026-12-24 18:30:00 UTC: see https://letsencrypt.org/docs/rate-limits/"}"#;
        let record = AcmeError::from_response(429, body, 0).to_history();
        assert!(record.text.contains("too many certificates"), "{record:?}");
        assert_eq!(record.held_until, Some(1_798_137_000));
        assert!(!record.invalid);

        let body = r#"{"type":"urn:ietf:params:acme:error:unauthorized","detail":"no answer"}"#;
        let record = AcmeError::from_response(403, body, 0).to_history();
        assert!(
            record.text.ends_with("no answer (unauthorized)"),
            "{record:?}"
        );
        assert!(record.invalid);
    }

    #[test]
    fn response_without_problem_document_reports_its_status() {
        assert_eq!(
            AcmeError::from_response(429, "slow down", 100)
                .to_history()
                .held_until,
            Some(3700)
        );
        let record = AcmeError::from_response(500, "<html>", 0).to_history();
        assert!(record.text.contains("500"), "{record:?}");
        let nonce = r#"{"type":"urn:ietf:params:acme:error:badNonce"}"#;
        assert!(matches!(
            AcmeError::from_response(400, nonce, 0),
            AcmeError::BadNonce(_)
        ));
    }

    #[test]
    fn status_500_with_problem_document_is_no_unreachable_ca() {
        let body = r#"{"type":"urn:ietf:params:acme:error:serverInternal","detail":"database"}"#;
        let record = AcmeError::from_response(500, body, 0).to_history();
        assert!(record.text.contains("status 500"), "{record:?}");
        assert!(
            record.text.ends_with("database (serverInternal)"),
            "{record:?}"
        );
        assert!(!record.text.contains("reached"), "{record:?}");
        assert!(!record.text.contains("refused"), "{record:?}");
    }

    #[test]
    fn retry_after_of_status_503_is_no_rate_limit() {
        let failure = AcmeError::from_response(503, "<html>", 100);
        let record = failure
            .with_retry_after(Some(Duration::from_secs(6)), 100)
            .to_history();
        assert_eq!(record.held_until, Some(106));
        assert!(record.text.contains("status 503"), "{record:?}");
        assert!(!record.text.contains("rate limit"), "{record:?}");
    }
}
