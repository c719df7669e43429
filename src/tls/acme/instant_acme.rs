//! Orders by `instant-acme`, which supports every challenge and account type: the order and the challenge responses.
//! For DNS-01 (RFC 8555 §8.4), `dns_hook` runs the programs that change DNS.

use crate::{
    config::Challenge,
    net::{crypto::provider, web_client::WebClient},
    tls::{
        acme::{
            client, dns_hook,
            error::{AcmeError, GenerateError, InvalidReason, RefusedReason},
            order::{CaConfig, OrderRequest},
        },
        issued::{ChallengeGuard, ChallengeResponder},
    },
};
use bytes::Bytes;
use http::Request;
use http_body_util::{BodyExt, Full};
use instant_acme::{
    Account, AuthorizationHandle, AuthorizationStatus, BodyWrapper, BytesResponse, ChallengeHandle,
    ChallengeType, Error, HttpClient, Identifier, NewOrder, OrderStatus, RetryPolicy,
};
use rcgen::{CertificateParams, CustomExtension, DistinguishedName, KeyPair};
use rustls::{
    pki_types::{PrivateKeyDer, PrivatePkcs8KeyDer},
    server::ClientHello,
    sign::CertifiedKey,
};
use std::{pin::Pin, sync::Arc, time::Duration};

/// Orders a certificate. Returns the key and the chain in PEM.
pub(crate) async fn issue(request: &OrderRequest) -> Result<Vec<u8>, AcmeError> {
    let failed = |error| order_error(error, &request.ca);
    let account = client::log_in(&request.ca, &request.account)
        .await
        .map_err(failed)?;
    let (key, csr) = signing_request(&request.name)?;

    let mut proofs = Vec::new();
    // A wildcard and its parent use the same TXT record, so they are validated one after the other.
    let _record = match request.challenge {
        Challenge::Dns01 => Some(
            request
                .ca
                .lock_txt_record(request.name.trim_start_matches("*."))
                .await,
        ),
        Challenge::TlsAlpn01 | Challenge::Http01 => None,
    };
    let issued = run_order(request, &account, &csr, &mut proofs).await;
    for proof in proofs {
        proof.withdraw(request).await;
    }
    let chain = issued?;
    Ok(format!("{}\n{chain}", key.serialize_pem()).into_bytes())
}

/// Runs the order and returns the chain. Adds to `proofs` the responses that the caller must withdraw in any case.
async fn run_order(
    request: &OrderRequest,
    account: &Account,
    csr: &[u8],
    proofs: &mut Vec<Proof>,
) -> Result<String, AcmeError> {
    let failed = |error| order_error(error, &request.ca);
    let names = [Identifier::Dns(request.name.to_string())];
    let order = account.new_order(&NewOrder::new(&names)).await;
    let mut order = order.map_err(failed)?;
    let mut authorizations = order.authorizations();
    while let Some(authorization) = authorizations.next().await {
        complete_challenge(request, authorization.map_err(failed)?, proofs).await?;
    }
    match order.poll_ready(&RETRY_POLICY).await {
        Ok(OrderStatus::Ready) => {}
        // The CA's validation failed or did not complete.
        Ok(_) | Err(Error::Timeout(_)) => {
            return Err(AcmeError::Invalid(rejection(&mut order).await));
        }
        Err(error) => return Err(failed(error)),
    }
    order.finalize_csr(csr).await.map_err(failed)?;
    order.poll_certificate(&RETRY_POLICY).await.map_err(failed)
}

/// Presents the challenge response and marks the challenge as ready.
async fn complete_challenge(
    request: &OrderRequest,
    mut authorization: AuthorizationHandle<'_>,
    proofs: &mut Vec<Proof>,
) -> Result<(), AcmeError> {
    match authorization.status {
        AuthorizationStatus::Pending => {}
        AuthorizationStatus::Valid => return Ok(()),
        other => {
            return Err(AcmeError::Refused(RefusedReason::Authorization(other)));
        }
    }
    let (kind, name) = match request.challenge {
        Challenge::TlsAlpn01 => (ChallengeType::TlsAlpn01, "tls-alpn-01"),
        Challenge::Http01 => (ChallengeType::Http01, "http-01"),
        Challenge::Dns01 => (ChallengeType::Dns01, "dns-01"),
    };
    let mut challenge = authorization.challenge(kind).ok_or_else(|| {
        AcmeError::Refused(RefusedReason::NoChallenge {
            challenge: name,
            name: request.name.clone(),
        })
    })?;
    proofs.push(Proof::present(request, &challenge).await?);
    challenge
        .set_ready()
        .await
        .map_err(|error| order_error(error, &request.ca))
}

/// A challenge response that the CA can query.
enum Proof {
    /// The response of this process; withdrawn on drop.
    InProcess {
        _guard: ChallengeGuard,
    },
    TxtRecord {
        name: String,
        value: String,
    },
}

// === impl Proof ===

impl Proof {
    async fn present(
        request: &OrderRequest,
        challenge: &ChallengeHandle<'_>,
    ) -> Result<Proof, AcmeError> {
        let authorization = challenge.key_authorization();
        let mut responder = PresentedChallenge {
            certificate: None,
            token: challenge.token.clone(),
            authorization: String::new(),
        };
        match request.challenge {
            Challenge::TlsAlpn01 => {
                let certificate = challenge_cert(&request.name, authorization.digest().as_ref());
                responder.certificate = Some(certificate?);
            }
            Challenge::Http01 => responder.authorization = authorization.as_str().to_owned(),
            Challenge::Dns01 => {
                let Some(hook) = &request.ca.dns else {
                    return Err(AcmeError::NoHook);
                };
                // RFC 8555 §8.4; a wildcard is validated at its parent.
                let parent = request.name.trim_start_matches("*.");
                let (name, value) = (
                    format!("_acme-challenge.{parent}"),
                    authorization.dns_value(),
                );
                dns_hook::present(hook, &name, &value).await?;
                return Ok(Proof::TxtRecord { name, value });
            }
        }
        Ok(Proof::InProcess {
            _guard: request
                .issued
                .register_challenge(&request.name, Arc::new(responder)),
        })
    }

    async fn withdraw(self, request: &OrderRequest) {
        if let (Proof::TxtRecord { name, value }, Some(hook)) = (self, &request.ca.dns) {
            dns_hook::cleanup(hook, &name, &value).await;
        }
    }
}

struct PresentedChallenge {
    certificate: Option<Arc<CertifiedKey>>,
    token: String,
    authorization: String,
}

impl ChallengeResponder for PresentedChallenge {
    fn hello(&self, _: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        self.certificate.clone()
    }

    fn token(&self, token: &str) -> Option<String> {
        let is_ours = !self.authorization.is_empty() && self.token == token;
        is_ours.then(|| self.authorization.clone())
    }
}

/// Creates the challenge certificate of RFC 8737 §3.
fn challenge_cert(name: &str, digest: &[u8]) -> Result<Arc<CertifiedKey>, GenerateError> {
    let key = KeyPair::generate()?;
    let mut params = CertificateParams::new([name.to_owned()])?;
    params.custom_extensions = vec![CustomExtension::new_acme_identifier(digest)];
    let certificate = params.self_signed(&key)?;
    let key = PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(key.serialize_der()));
    let key = provider().key_provider.load_private_key(key)?;
    // rustls does not know its critical extension and would reject the certificate if it parsed it.
    Ok(Arc::new(CertifiedKey::new(vec![certificate.into()], key)))
}

/// Generates a key and a certificate signing request for it (RFC 2986).
fn signing_request(name: &str) -> Result<(KeyPair, Vec<u8>), GenerateError> {
    let key = KeyPair::generate()?;
    let mut params = CertificateParams::new([name.to_owned()])?;
    params.distinguished_name = DistinguishedName::new();
    let csr = params.serialize_request(&key)?.der().to_vec();
    Ok((key, csr))
}

/// Returns the reason for an invalid order, which the CA reports in the challenge object.
async fn rejection(order: &mut instant_acme::Order) -> InvalidReason {
    let mut authorizations = order.authorizations();
    while let Some(Ok(mut authorization)) = authorizations.next().await {
        let Ok(state) = authorization.refresh().await else {
            continue;
        };
        let mut problems = state.challenges.iter().filter_map(|c| c.error.as_ref());
        if let Some(problem) = problems.next() {
            return InvalidReason::Problem(problem.clone().into());
        }
    }
    InvalidReason::Unknown
}

/// Converts an error of an order.
fn order_error(error: Error, ca: &CaConfig) -> AcmeError {
    match error {
        Error::Timeout(_) => AcmeError::Timeout(POLL_TIMEOUT),
        other => client::acme_error(other, ca),
    }
}

impl HttpClient for WebClient {
    fn request(
        &self,
        request: Request<BodyWrapper<Bytes>>,
    ) -> Pin<Box<dyn Future<Output = Result<BytesResponse, Error>> + Send>> {
        let client = self.clone();
        Box::pin(async move {
            let (parts, body) = request.into_parts();
            let Ok(body) = body.collect().await;
            let request = Request::from_parts(parts, body.to_bytes());
            let response = client.send(request).await;
            let response = response.map_err(|error| Error::Other(Box::new(error)))?;
            Ok(response.map(Full::new).into())
        })
    }
}

const RETRY_POLICY: RetryPolicy = RetryPolicy::new().timeout(POLL_TIMEOUT).backoff(1.5);

/// The time for which the state of an order is polled after each step.
const POLL_TIMEOUT: Duration = Duration::from_secs(90);

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        net::resolver::Resolver,
        tls::acme::{files, schedule::CaClock},
    };
    use std::sync::Mutex;

    fn ca() -> CaConfig {
        let tls = files::client_config(None).unwrap();
        CaConfig {
            directory: "https://ca.test/dir".to_owned(),
            contact: Vec::new(),
            eab: None,
            dns: None,
            https: WebClient::new(tls.clone(), Resolver::system()),
            tls,
            clock: CaClock::default(),
            txt_record_locks: Mutex::default(),
        }
    }

    #[test]
    fn order_that_is_polled_for_too_long_is_a_timeout() {
        let failure = order_error(Error::Timeout(None), &ca());
        assert!(
            matches!(failure, AcmeError::Timeout(POLL_TIMEOUT)),
            "{failure:?}"
        );
    }
    #[test]
    fn problem_with_status_503_is_no_refusal() {
        let problem = r#"{"type":"urn:ietf:params:acme:error:serverInternal","detail":"database","status":503}"#;
        let failure = order_error(Error::Api(serde_json::from_str(problem).unwrap()), &ca());
        assert!(
            matches!(failure, AcmeError::ErrorStatus { status: 503, .. }),
            "{failure:?}"
        );
    }
}
