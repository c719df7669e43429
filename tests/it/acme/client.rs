//! An ACME client for the tests of the harness.

use crate::harness::{Pebble, web::fetch};
use bytes::Bytes;
use http::Request;
use http_body_util::Full;
use instant_acme::{
    Account, AuthorizationStatus, BodyWrapper, BytesResponse, ChallengeType, Error,
    ExternalAccountKey, HttpClient, Identifier, NewAccount, NewOrder, Order, RetryPolicy,
};
use rcgen::{CertificateParams, KeyPair};
use std::{path::PathBuf, pin::Pin};

/// The CA of the API.
struct Client(PathBuf);

// === impl Client ===

impl HttpClient for Client {
    fn request(
        &self,
        request: Request<BodyWrapper<Bytes>>,
    ) -> Pin<Box<dyn Future<Output = Result<BytesResponse, Error>> + Send>> {
        let ca = self.0.clone();
        Box::pin(async move {
            let answer = fetch(request, &ca).await.map_err(Error::Other)?;
            Ok(BytesResponse::from(answer.map(Full::new)))
        })
    }
}

/// Creates an account at `directory`.
pub(super) async fn account(
    pebble: &Pebble,
    directory: String,
    external: Option<&ExternalAccountKey>,
) -> Account {
    let new = NewAccount {
        contact: &[],
        terms_of_service_agreed: true,
        only_return_existing: false,
    };
    let builder = Account::builder_with_http(Box::new(Client(pebble.ca())));
    let created = builder.create(&new, directory, external).await;
    created.expect("an account").0
}

/// A certificate for `a.test` by dns-01.
pub(super) async fn issue(pebble: &Pebble, account: &Account) -> String {
    let mut order = order(account).await;
    let mut authorizations = order.authorizations();
    while let Some(authorization) = authorizations.next().await {
        let mut authorization = authorization.expect("an authorization");
        if authorization.status == AuthorizationStatus::Valid {
            continue;
        }
        let challenge = authorization.challenge(ChallengeType::Dns01);
        let mut challenge = challenge.expect("dns-01");
        let value = challenge.key_authorization().dns_value();
        pebble.set_txt("_acme-challenge.a.test", &value).await;
        challenge.set_ready().await.expect("it will look");
    }
    let ready = order.poll_ready(&RetryPolicy::new()).await;
    ready.expect("it found the record");
    let csr = CertificateParams::new(["a.test".into()]).expect("a name");
    let csr = csr.serialize_request(&KeyPair::generate().expect("a key"));
    order
        .finalize_csr(csr.expect("a CSR").der())
        .await
        .expect("taken");
    let certificate = order.poll_certificate(&RetryPolicy::new()).await;
    certificate.expect("issued")
}

/// Has `a.test` validated by http-01; returns the path where the CA will look.
pub(super) async fn validate(account: &Account) -> String {
    let mut order = order(account).await;
    let mut authorizations = order.authorizations();
    let authorization = authorizations.next().await.expect("one for its one name");
    let mut authorization = authorization.expect("an authorization");
    let challenge = authorization.challenge(ChallengeType::Http01);
    let mut challenge = challenge.expect("http-01");
    challenge.set_ready().await.expect("it will look");
    format!("/.well-known/acme-challenge/{}", challenge.token)
}

async fn order(account: &Account) -> Order {
    let names = [Identifier::Dns("a.test".into())];
    let order = account.new_order(&NewOrder::new(&names)).await;
    order.expect("an order")
}
