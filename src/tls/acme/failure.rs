//! Why no certificate came, whichever library asked.

use super::pace::FailureRecord;
use std::time::Duration;

/// By cause.
#[derive(Debug, thiserror::Error)]
pub(super) enum AcmeError {
    /// The CA cannot be reached, or does not speak ACME.
    #[error("the CA cannot be asked: {0}")]
    Unreachable(String),
    /// It looked for the answer to its challenge, and found none.
    #[error("the CA could not validate the name: {0}")]
    Invalid(String),
    /// It has had enough of us.
    #[error("the CA wants to be asked less often: {text}")]
    RateLimited {
        text: String,
        /// When it may be asked again, in seconds since 1970.
        retry_after: Option<i64>,
    },
    /// It did not take a nonce that it had given.
    #[error("the CA refused a nonce of its own: {0}")]
    BadNonce(String),
    /// It said no.
    #[error("the CA refused: {0}")]
    Refused(String),
    /// A program that changes DNS.
    #[error("{0}")]
    Hook(String),
    /// What it issued cannot be used.
    #[error("the CA's certificate cannot be used: {0}")]
    Unusable(String),
    /// Nothing came of it within the time that everything must take.
    #[error("nothing came of it within {0} s")]
    Timeout(u64),
}

// === impl AcmeError ===

impl AcmeError {
    /// From a problem document (RFC 8555 §6.7): its type and its words.
    pub(super) fn from_problem(kind: Option<&str>, detail: Option<&str>, now: i64) -> AcmeError {
        let short = kind.and_then(|kind| kind.rsplit(':').next()).unwrap_or("");
        let text = match (detail, short) {
            (Some(detail), "") => detail.to_owned(),
            (Some(detail), kind) => format!("{detail} ({kind})"),
            (None, "") => "it did not say why".to_owned(),
            (None, kind) => kind.to_owned(),
        };
        match short {
            "rateLimited" => AcmeError::rate_limited(text, None, now),
            "badNonce" => AcmeError::BadNonce(text),
            // What a CA says of a challenge that it did not find answered (RFC 8555 §6.7).
            "connection" | "dns" | "unauthorized" | "incorrectResponse" | "tls" | "caa" => {
                AcmeError::Invalid(text)
            }
            _ => AcmeError::Refused(text),
        }
    }

    /// From an answer with a status that is no success.
    pub(super) fn from_answer(status: u16, body: &str, now: i64) -> AcmeError {
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

    /// `retry_after` as a header said it, else as Let's Encrypt writes it into its text, else an hour.
    pub(super) fn rate_limited(text: String, retry_after: Option<i64>, now: i64) -> AcmeError {
        let retry_after = retry_after.or_else(|| parse_retry_after_text(&text));
        AcmeError::RateLimited {
            retry_after: Some(retry_after.unwrap_or(now + 3600)),
            text,
        }
    }

    /// The same, with what a header said about when to come back.
    pub(super) fn not_before(self, wait: Option<Duration>, now: i64) -> AcmeError {
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

    pub(super) fn to_history(&self) -> FailureRecord {
        let (invalid, hold) = match self {
            AcmeError::Invalid(_) => (true, None),
            AcmeError::RateLimited { retry_after, .. } => (false, *retry_after),
            _ => (false, None),
        };
        FailureRecord {
            text: self.to_string(),
            invalid,
            hold,
        }
    }
}

#[derive(serde::Deserialize)]
struct ProblemDocument {
    #[serde(rename = "type")]
    kind: Option<String>,
    detail: Option<String>,
}

/// "…, retry after 2026-12-24 18:30:00 UTC: see https://…"
fn parse_retry_after_text(text: &str) -> Option<i64> {
    let (_, rest) = text.split_once("retry after ")?;
    let written = rest.get(..TIME.len())?;
    let time = humantime::parse_rfc3339(&format!("{}Z", written.replace(' ', "T"))).ok()?;
    let since = time.duration_since(std::time::UNIX_EPOCH).ok()?;
    i64::try_from(since.as_secs()).ok()
}

const TIME: &str = "2026-12-24 18:30:00";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_cas_own_words_are_kept() {
        let body = r#"{"type":"urn:ietf:params:acme:error:rateLimited","detail":"too many certificates, retry after 2026-12-24 18:30:00 UTC: see https://letsencrypt.org/docs/rate-limits/"}"#;
        let told = AcmeError::from_answer(429, body, 0).to_history();
        assert!(told.text.contains("too many certificates"), "{told:?}");
        assert_eq!(told.hold, Some(1_798_137_000));
        assert!(!told.invalid);

        let body = r#"{"type":"urn:ietf:params:acme:error:unauthorized","detail":"no answer"}"#;
        let told = AcmeError::from_answer(403, body, 0).to_history();
        assert!(told.text.ends_with("no answer (unauthorized)"), "{told:?}");
        assert!(told.invalid);
    }

    #[test]
    fn what_is_no_problem_document_says_its_status() {
        assert_eq!(
            AcmeError::from_answer(429, "slow down", 100)
                .to_history()
                .hold,
            Some(3700)
        );
        let told = AcmeError::from_answer(500, "<html>", 0).to_history();
        assert!(told.text.contains("500"), "{told:?}");
        let nonce = r#"{"type":"urn:ietf:params:acme:error:badNonce"}"#;
        assert!(matches!(
            AcmeError::from_answer(400, nonce, 0),
            AcmeError::BadNonce(_)
        ));
    }
}
