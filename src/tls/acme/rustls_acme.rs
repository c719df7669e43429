//! Orders by `rustls-acme`: TLS-ALPN-01 and HTTP-01.
//!
//! An `AcmeState` orders and renews on its own schedule. Here it is used for a single order: the caller decides when to
//! order, what to store and what to serve. This avoids the limitations of its schedule (backoff from one second, no
//! deadline, a loop if the clock is wrong).

use crate::{
    config::Challenge,
    tls::{
        acme::{
            error::{
                AcmeError, GenerateError, InvalidReason, RefusedReason, TransportError,
                UnusableReason,
            },
            order::OrderRequest,
        },
        issued::ChallengeResponder,
    },
};
use async_trait::async_trait;
use futures_util::StreamExt;
use rustls::{
    server::{ClientHello, ResolvesServerCert},
    sign::CertifiedKey,
};
use rustls_acme::{
    AccountCache, AcmeConfig, CertCache, EventError, EventOk, OrderError, ResolvesServerCertAcme,
    UseChallenge,
    acme::{self, Auth},
};
use std::{
    convert::Infallible,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

/// Orders a certificate. Returns the key and the chain in PEM.
pub(crate) async fn issue(request: &OrderRequest) -> Result<Vec<u8>, AcmeError> {
    let certificate = Arc::new(Mutex::new(None));
    let config = AcmeConfig::new_with_client_config([&request.name], request.ca.tls.clone())
        .directory(request.ca.directory.as_str())
        .contact(&request.ca.contact)
        .challenge_type(match request.challenge {
            Challenge::Http01 => UseChallenge::Http01,
            Challenge::TlsAlpn01 | Challenge::Dns01 => UseChallenge::TlsAlpn01,
        })
        .cache(OneShotCache {
            account: request.account.clone(),
            certificate: certificate.clone(),
        });
    let mut state = config.state();
    let _guard = request
        .issued
        .register_challenge(&request.name, state.resolver());
    loop {
        match state.next().await {
            // The cache has the key and the certificate now.
            Some(Ok(EventOk::CertCacheStore)) => {}
            Some(Ok(_)) => continue,
            Some(Err(EventError::Order(error))) => return Err(acme_error(error, request.now())),
            Some(Err(error)) => {
                return Err(AcmeError::Unusable(UnusableReason::RustlsAcme(
                    error.into(),
                )));
            }
            None => return Err(AcmeError::Unusable(UnusableReason::Missing)),
        }
        let pem = certificate
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .take();
        return pem.ok_or(AcmeError::Unusable(UnusableReason::Missing));
    }
}

impl ChallengeResponder for ResolvesServerCertAcme {
    fn hello(&self, hello: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        self.resolve(hello)
    }

    fn token(&self, token: &str) -> Option<String> {
        self.get_http_01_key_auth(token)
    }
}

/// A cache without a certificate, which makes the library order one; it returns the account key.
struct OneShotCache {
    account: Arc<[u8]>,
    /// Receives the key and the chain in PEM.
    certificate: Arc<Mutex<Option<Vec<u8>>>>,
}

#[async_trait]
impl CertCache for OneShotCache {
    type EC = Infallible;

    async fn load_cert(&self, _: &[String], _: &str) -> Result<Option<Vec<u8>>, Infallible> {
        Ok(None)
    }

    async fn store_cert(&self, _: &[String], _: &str, pem: &[u8]) -> Result<(), Infallible> {
        let mut certificate = self
            .certificate
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        *certificate = Some(pem.to_owned());
        Ok(())
    }
}

#[async_trait]
impl AccountCache for OneShotCache {
    type EA = Infallible;

    async fn load_account(&self, _: &[String], _: &str) -> Result<Option<Vec<u8>>, Infallible> {
        Ok(Some(self.account.to_vec()))
    }

    async fn store_account(&self, _: &[String], _: &str, _: &[u8]) -> Result<(), Infallible> {
        Ok(())
    }
}

/// Converts an order error. Only a failed authorization counts as a failed validation.
fn acme_error(error: OrderError, now: i64) -> AcmeError {
    match error {
        OrderError::BadAuth(auth) => AcmeError::Invalid(invalid_reason(auth)),
        OrderError::TooManyAttemptsAuth(name) => AcmeError::Invalid(InvalidReason::Pending(name)),
        OrderError::BadOrder(order) => match order.error {
            Some(problem) => AcmeError::from_problem(problem.into(), None, now),
            None => AcmeError::Refused(RefusedReason::OrderInvalid),
        },
        OrderError::ProcessingTimeout(_) => AcmeError::Timeout(PROCESSING_TIMEOUT),
        error @ OrderError::Rcgen(_) => {
            AcmeError::Generate(GenerateError::RustlsAcme(error.into()))
        }
        OrderError::Acme(acme::AcmeError::HttpRequest(error)) => {
            match parse_error_response(&error.to_string()) {
                Some((status, body)) => AcmeError::from_response(status, &body, now),
                None => AcmeError::Unreachable(TransportError::RustlsAcme(error.into())),
            }
        }
        OrderError::Acme(error) => AcmeError::Unreachable(TransportError::RustlsAcme(error)),
    }
}

/// Parses status and body from the text of an error whose type is private. The body is quoted and escaped there.
fn parse_error_response(text: &str) -> Option<(u16, String)> {
    let (status, body) = text
        .strip_prefix("non 2xx http status: ")?
        .split_once(' ')?;
    let body = serde_json::from_str(body).unwrap_or_else(|_| body.to_owned());
    Some((status.parse().ok()?, body))
}

/// Returns the CA's reason for a failed authorization, which the challenge objects have.
fn invalid_reason(auth: Auth) -> InvalidReason {
    let challenges = auth.challenges.into_iter();
    let mut problems = challenges.filter_map(|challenge| challenge.error);
    match problems.next() {
        Some(problem) => InvalidReason::Problem(problem.into()),
        None => InvalidReason::Authorization(auth.status),
    }
}

/// The time for which `rustls-acme` polls an order that the CA processes: 1 + 2 + 4 + … + 512 s.
const PROCESSING_TIMEOUT: Duration = Duration::from_secs(1023);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn status_and_body_are_parsed_from_the_error_text() {
        let body = "{\"type\": \"a\"}\n";
        let text = format!("non 2xx http status: {} {body:?}", 400);
        assert_eq!(parse_error_response(&text), Some((400, body.to_owned())));
        assert_eq!(parse_error_response("io error: broken"), None);
    }

    #[test]
    fn order_that_stays_in_processing_is_a_timeout() {
        let order = r#"{"status":"processing","authorizations":[],"finalize":"https://ca.test/1"}"#;
        let order = serde_json::from_str(order).unwrap();
        let failure = acme_error(OrderError::ProcessingTimeout(order), 0);
        assert!(matches!(failure, AcmeError::Timeout(_)), "{failure:?}");
    }
}
