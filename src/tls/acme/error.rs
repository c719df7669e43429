//! Errors of an order, whichever library ran it.

use std::time::Duration;

/// An error of an order, by cause.
#[derive(Debug, thiserror::Error)]
pub(crate) enum AcmeError {
    /// The CA cannot be reached, or does not implement ACME.
    #[error("the CA cannot be reached: {0}")]
    Unreachable(String),
    /// The CA could not validate the name: its query failed, or the response was wrong.
    #[error("the CA could not validate the name: {0}")]
    Invalid(String),
    /// The CA's rate limit is exceeded.
    #[error("the CA's rate limit is exceeded: {text}")]
    RateLimited {
        text: String,
        /// The earliest time of the next request, in seconds since 1970.
        retry_after: Option<i64>,
    },
    /// The CA rejected a nonce that it had issued.
    #[error("the CA rejected a nonce that it had issued: {0}")]
    BadNonce(String),
    /// The CA refused for another reason.
    #[error("the CA refused: {0}")]
    Refused(String),
    /// A DNS hook program failed.
    #[error("{0}")]
    Hook(String),
    /// The issued certificate cannot be used.
    #[error("the CA's certificate cannot be used: {0}")]
    Unusable(String),
    /// The order did not complete within its time limit.
    #[error("the order did not complete within {0} s")]
    Timeout(u64),
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
    /// Creates the error from the type and detail of a problem document (RFC 8555 §6.7).
    pub(crate) fn from_problem(kind: Option<&str>, detail: Option<&str>, now: i64) -> AcmeError {
        let short = kind.and_then(|kind| kind.rsplit(':').next()).unwrap_or("");
        let text = match (detail, short) {
            (Some(detail), "") => detail.to_owned(),
            (Some(detail), kind) => format!("{detail} ({kind})"),
            (None, "") => "no reason given".to_owned(),
            (None, kind) => kind.to_owned(),
        };
        match short {
            "rateLimited" => AcmeError::rate_limited(text, None, now),
            "badNonce" => AcmeError::BadNonce(text),
            // The types for a failed validation (RFC 8555 §6.7).
            "connection" | "dns" | "unauthorized" | "incorrectResponse" | "tls" | "caa" => {
                AcmeError::Invalid(text)
            }
            _ => AcmeError::Refused(text),
        }
    }

    /// Creates the error from a response with an error status.
    pub(crate) fn from_response(status: u16, body: &str, now: i64) -> AcmeError {
        let problem: Option<ProblemDocument> = serde_json::from_str(body).ok();
        let failure = match &problem {
            Some(problem) => {
                AcmeError::from_problem(problem.kind.as_deref(), problem.detail.as_deref(), now)
            }
            None => AcmeError::Unreachable(format!("it answered with the status {status}")),
        };
        match failure {
            limited @ AcmeError::RateLimited { .. } => limited,
            other if status == 429 => AcmeError::rate_limited(other.to_string(), None, now),
            other if status >= 500 => AcmeError::Unreachable(other.to_string()),
            other => other,
        }
    }

    /// Creates a rate limit error. The time is `retry_after` from a header, otherwise the one in Let's Encrypt's text,
    /// otherwise one hour from now.
    fn rate_limited(text: String, retry_after: Option<i64>, now: i64) -> AcmeError {
        let retry_after = retry_after.or_else(|| parse_retry_after_text(&text));
        AcmeError::RateLimited {
            retry_after: Some(retry_after.unwrap_or(now + 3600)),
            text,
        }
    }

    /// Applies the delay of a `Retry-After` header.
    pub(crate) fn not_before(self, wait: Option<Duration>, now: i64) -> AcmeError {
        let wait = wait.and_then(|wait| i64::try_from(wait.as_secs()).ok());
        match (self, wait) {
            (AcmeError::RateLimited { text, .. } | AcmeError::Unreachable(text), Some(wait)) => {
                AcmeError::RateLimited {
                    text,
                    retry_after: Some(now.saturating_add(wait)),
                }
            }
            (failure, _) => failure,
        }
    }

    pub(crate) fn to_history(&self) -> FailureRecord {
        let (invalid, held_until) = match self {
            AcmeError::Invalid(_) => (true, None),
            AcmeError::RateLimited { retry_after, .. } => (false, *retry_after),
            _ => (false, None),
        };
        FailureRecord {
            text: self.to_string(),
            invalid,
            held_until,
        }
    }
}

#[derive(serde::Deserialize)]
struct ProblemDocument {
    #[serde(rename = "type")]
    kind: Option<String>,
    detail: Option<String>,
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
}
