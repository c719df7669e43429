//! The account at the CA: creates its key once, and authenticates with it.

use std::sync::Arc;

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use instant_acme::{Account, Error, ExternalAccountKey, Key, NewAccount};
use rcgen::KeyPair;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{PrivateKeyDer, PrivatePkcs8KeyDer};
use tracing::info;

use super::failure::AcmeError;
use super::wish::CaConfig;
use crate::observe::ErrorChain;
use crate::tls::store::WriteBehindStore;

/// Returns the account key in PKCS #8: the stored one, or a new one, which is saved before it is used.
pub(super) async fn key(ca: &CaConfig, store: &WriteBehindStore) -> Result<Arc<[u8]>, AcmeError> {
    let unreadable =
        |error| AcmeError::Unusable(format!("{} cannot be read: {error}", store.location()));
    if let Some(pem) = store.load(FILE).map_err(unreadable)? {
        match PrivatePkcs8KeyDer::from_pem_slice(&pem) {
            Ok(key) if Key::from_pkcs8_der(key.clone_key()).is_ok() => {
                return Ok(key.secret_pkcs8_der().into());
            }
            _ => store.quarantine(FILE, "it is not an account key; a new account is created"),
        }
    }
    let der = match &ca.eab {
        None => KeyPair::generate().map_err(|error| AcmeError::Unusable(error.to_string()))?,
        // The library creates a bound account together with its key.
        Some(_) => bind(ca).await?,
    };
    store.save(FILE, der.serialize_pem().as_bytes());
    info!(folder = %store.location(), "created an ACME account key");
    Ok(der.serialize_der().into())
}

/// Creates an account that is bound to an existing account at the CA (external account binding, RFC 8555 §7.3.4).
async fn bind(ca: &CaConfig) -> Result<KeyPair, AcmeError> {
    let failed = |error: Error| match error {
        Error::Api(problem) => AcmeError::from_problem(
            problem.r#type.as_deref(),
            problem.detail.as_deref(),
            ca.clock.now(),
        ),
        other => AcmeError::Unreachable(ErrorChain(&other).to_string()),
    };
    let eab = ca.eab.as_ref().map(|eab| {
        let hmac = URL_SAFE_NO_PAD.decode(eab.hmac.expose().trim_end_matches('='));
        ExternalAccountKey::new(eab.kid.clone(), &hmac.unwrap_or_default())
    });
    let contact: Vec<&str> = ca.contact.iter().map(String::as_str).collect();
    let new_account = NewAccount {
        contact: &contact,
        terms_of_service_agreed: true,
        only_return_existing: false,
    };
    let created = Account::builder_with_http(Box::new(ca.https.clone()))
        .create(&new_account, ca.directory.clone(), eab.as_ref())
        .await;
    let (_, credentials) = created.map_err(failed)?;
    let key = KeyPair::try_from(credentials.private_key().secret_pkcs8_der());
    key.map_err(|error| AcmeError::Unusable(error.to_string()))
}

/// Logs in with this key. Without external account binding a missing account is created; a bound account must exist.
pub(super) async fn log_in(ca: &CaConfig, key: &[u8]) -> Result<Account, Error> {
    let der = PrivatePkcs8KeyDer::from(key.to_vec());
    let key = Key::from_pkcs8_der(der.clone_key())?;
    let key = (key, PrivateKeyDer::Pkcs8(der));
    let builder = Account::builder_with_http(Box::new(ca.https.clone()));
    let directory = ca.directory.clone();
    let found = match &ca.eab {
        None => builder.create_from_key(key, directory).await,
        Some(_) => builder.from_key(key, directory).await,
    };
    found.map(|(account, _)| account)
}

/// The file name in the store.
const FILE: &str = "account.pem";
