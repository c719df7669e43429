//! An ACME client that is not Lockgate's.

use crate::harness::{Front, Pebble, web::ask};
use bytes::Bytes;
use http::Request;
use http_body_util::Full;
use instant_acme::{
    Account, BodyWrapper, BytesResponse, ChallengeType, Error, ExternalAccountKey, HttpClient,
    Identifier, NewAccount, NewOrder, RetryPolicy,
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
            let answer = ask(request, &ca).await.map_err(Error::Other)?;
            Ok(BytesResponse::from(answer.map(Full::new)))
        })
    }
}

/// A certificate for `a.test` by dns-01.
pub(super) async fn issue(pebble: &Pebble, front: &Front, external: &ExternalAccountKey) -> String {
    let new = NewAccount {
        contact: &[],
        terms_of_service_agreed: true,
        only_return_existing: false,
    };
    let builder = Account::builder_with_http(Box::new(Client(pebble.ca())));
    let created = builder
        .create(&new, front.directory(), Some(external))
        .await;
    let (account, _) = created.expect("an account");
    let names = [Identifier::Dns("a.test".into())];
    let mut order = account
        .new_order(&NewOrder::new(&names))
        .await
        .expect("an order");
    let mut authorizations = order.authorizations();
    while let Some(authorization) = authorizations.next().await {
        let mut authorization = authorization.expect("an authorization");
        let mut challenge = authorization
            .challenge(ChallengeType::Dns01)
            .expect("dns-01");
        let value = challenge.key_authorization().dns_value();
        pebble.set_txt("_acme-challenge.a.test", &value).await;
        challenge.set_ready().await.expect("it will look");
    }
    order.poll_ready(&RetryPolicy::new()).await.expect("valid");
    let csr = CertificateParams::new(["a.test".into()]).expect("a name");
    let csr = csr
        .serialize_request(&KeyPair::generate().expect("a key"))
        .expect("a CSR");
    order.finalize_csr(csr.der()).await.expect("taken");
    order
        .poll_certificate(&RetryPolicy::new())
        .await
        .expect("issued")
}
