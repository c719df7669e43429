//! Orders by `instant-acme`: supports every challenge and account type.

use std::sync::Arc;

use instant_acme::{
    Account, AuthorizationHandle, AuthorizationStatus, ChallengeHandle, ChallengeType, Error,
    Identifier, NewOrder, OrderStatus, RetryPolicy,
};
use rcgen::{CertificateParams, CustomExtension, DistinguishedName, KeyPair};
use rustls::pki_types::{PrivateKeyDer, PrivatePkcs8KeyDer};
use rustls::server::ClientHello;
use rustls::sign::CertifiedKey;

use super::failure::AcmeError;
use super::wish::OrderRequest;
use super::{account, hook};
use crate::config::Challenge;
use crate::observe::ErrorChain;
use crate::tls::policy::provider;
use crate::tls::shelf::{ChallengeGuard, ChallengeResponder};

/// Orders a certificate. Returns the key and the chain in PEM.
pub(super) async fn issue(wish: &OrderRequest) -> Result<Vec<u8>, AcmeError> {
    let failed = |error| explain(error, wish);
    let account = account::log_in(&wish.ca, &wish.account)
        .await
        .map_err(failed)?;
    let (key, request) =
        request(&wish.name).map_err(|error| AcmeError::Unusable(error.to_string()))?;

    let mut proofs = Vec::new();
    // A wildcard and its parent use the same TXT record, so they are validated one after the other.
    let _record = match wish.challenge {
        Challenge::Dns01 => Some(
            wish.ca
                .lock_txt_record(wish.name.trim_start_matches("*."))
                .await,
        ),
        Challenge::TlsAlpn01 | Challenge::Http01 => None,
    };
    let issued = run_order(wish, &account, &request, &mut proofs).await;
    for proof in proofs {
        proof.withdraw(wish).await;
    }
    let chain = issued?;
    Ok(format!("{}\n{chain}", key.serialize_pem()).into_bytes())
}

/// Runs the order and returns the chain. Adds to `proofs` the responses that the caller must withdraw in any case.
async fn run_order(
    wish: &OrderRequest,
    account: &Account,
    request: &[u8],
    proofs: &mut Vec<Proof>,
) -> Result<String, AcmeError> {
    let failed = |error| explain(error, wish);
    let names = [Identifier::Dns(wish.name.to_string())];
    let order = account.new_order(&NewOrder::new(&names)).await;
    let mut order = order.map_err(failed)?;
    let mut authorizations = order.authorizations();
    while let Some(authorization) = authorizations.next().await {
        complete_challenge(wish, authorization.map_err(failed)?, proofs).await?;
    }
    match order.poll_ready(&RETRY_POLICY).await {
        Ok(OrderStatus::Ready) => {}
        // The CA's validation failed or did not complete.
        Ok(_) | Err(Error::Timeout(_)) => {
            return Err(AcmeError::Invalid(rejection(&mut order).await));
        }
        Err(error) => return Err(failed(error)),
    }
    order.finalize_csr(request).await.map_err(failed)?;
    order.poll_certificate(&RETRY_POLICY).await.map_err(failed)
}

/// Presents the challenge response and marks the challenge as ready.
async fn complete_challenge(
    wish: &OrderRequest,
    mut authorization: AuthorizationHandle<'_>,
    proofs: &mut Vec<Proof>,
) -> Result<(), AcmeError> {
    match authorization.status {
        AuthorizationStatus::Pending => {}
        AuthorizationStatus::Valid => return Ok(()),
        other => {
            return Err(AcmeError::Refused(format!(
                "the authorization is {other:?}"
            )));
        }
    }
    let (kind, word) = match wish.challenge {
        Challenge::TlsAlpn01 => (ChallengeType::TlsAlpn01, "tls-alpn-01"),
        Challenge::Http01 => (ChallengeType::Http01, "http-01"),
        Challenge::Dns01 => (ChallengeType::Dns01, "dns-01"),
    };
    let mut challenge = authorization.challenge(kind).ok_or_else(|| {
        AcmeError::Refused(format!(
            "it does not offer the challenge {word} for {}",
            wish.name
        ))
    })?;
    proofs.push(Proof::present(wish, &challenge).await?);
    challenge
        .set_ready()
        .await
        .map_err(|error| explain(error, wish))
}

/// A presented challenge response.
enum Proof {
    /// The response in this process; withdrawn on drop.
    Shown {
        _answer: ChallengeGuard,
    },
    Record {
        name: String,
        value: String,
    },
}

// === impl Proof ===

impl Proof {
    async fn present(
        wish: &OrderRequest,
        challenge: &ChallengeHandle<'_>,
    ) -> Result<Proof, AcmeError> {
        let authorization = challenge.key_authorization();
        let mut shown = PresentedChallenge {
            certificate: None,
            token: challenge.token.clone(),
            authorization: String::new(),
        };
        match wish.challenge {
            Challenge::TlsAlpn01 => {
                let certificate = challenge_cert(&wish.name, authorization.digest().as_ref());
                shown.certificate = Some(certificate?);
            }
            Challenge::Http01 => shown.authorization = authorization.as_str().to_owned(),
            Challenge::Dns01 => {
                let Some(hook) = &wish.ca.dns else {
                    return Err(AcmeError::Hook("acme.dns is not set".into()));
                };
                // RFC 8555 §8.4; a wildcard is validated at its parent.
                let parent = wish.name.trim_start_matches("*.");
                let (name, value) = (
                    format!("_acme-challenge.{parent}"),
                    authorization.dns_value(),
                );
                hook::present(hook, &name, &value).await?;
                return Ok(Proof::Record { name, value });
            }
        }
        Ok(Proof::Shown {
            _answer: wish.shelf.register_challenge(&wish.name, Arc::new(shown)),
        })
    }

    async fn withdraw(self, wish: &OrderRequest) {
        if let (Proof::Record { name, value }, Some(hook)) = (self, &wish.ca.dns) {
            hook::cleanup(hook, &name, &value).await;
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
fn challenge_cert(name: &str, digest: &[u8]) -> Result<Arc<CertifiedKey>, AcmeError> {
    let unusable = |error: rcgen::Error| AcmeError::Unusable(error.to_string());
    let key = KeyPair::generate().map_err(unusable)?;
    let mut params = CertificateParams::new([name.to_owned()]).map_err(unusable)?;
    params.custom_extensions = vec![CustomExtension::new_acme_identifier(digest)];
    let certificate = params.self_signed(&key).map_err(unusable)?;
    let key = PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(key.serialize_der()));
    let key = provider().key_provider.load_private_key(key);
    let key = key.map_err(|error| AcmeError::Unusable(error.to_string()))?;
    // rustls does not know its critical extension and would reject the certificate if it parsed it.
    Ok(Arc::new(CertifiedKey::new(vec![certificate.into()], key)))
}

/// Generates a key and a certificate signing request for it (RFC 2986).
fn request(name: &str) -> Result<(KeyPair, Vec<u8>), rcgen::Error> {
    let key = KeyPair::generate()?;
    let mut params = CertificateParams::new([name.to_owned()])?;
    params.distinguished_name = DistinguishedName::new();
    let request = params.serialize_request(&key)?.der().to_vec();
    Ok((key, request))
}

/// Returns the reason for an invalid order, which the CA reports in the challenge object.
async fn rejection(order: &mut instant_acme::Order) -> String {
    let mut authorizations = order.authorizations();
    while let Some(Ok(mut authorization)) = authorizations.next().await {
        let Ok(state) = authorization.refresh().await else {
            continue;
        };
        let mut problems = state.challenges.iter().filter_map(|c| c.error.as_ref());
        if let Some(problem) = problems.next() {
            return problem.to_string();
        }
    }
    "the order became invalid; the CA gave no reason".to_owned()
}

fn explain(error: Error, wish: &OrderRequest) -> AcmeError {
    let retry_after = wish.ca.web.retry_after();
    match error {
        Error::Api(problem) => {
            let failure = AcmeError::from_problem(
                problem.r#type.as_deref(),
                problem.detail.as_deref(),
                wish.now(),
            );
            failure.not_before(retry_after, wish.now())
        }
        Error::Timeout(_) => AcmeError::Unreachable("it did not finish the order in time".into()),
        other => AcmeError::Unreachable(ErrorChain(&other).to_string()),
    }
}

const RETRY_POLICY: RetryPolicy = RetryPolicy::new()
    .timeout(std::time::Duration::from_secs(90))
    .backoff(1.5);
