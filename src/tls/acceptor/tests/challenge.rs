//! TLS handshakes of a CA that validates a name (RFC 8737).

use std::sync::Arc;

use rustls::AlertDescription;
use rustls::server::ClientHello;
use rustls::sign::CertifiedKey;
use tokio::io::AsyncReadExt;
use tokio::time::Instant;

use super::super::*;
use super::{BOTH, alert};
use crate::tls::shelf::ChallengeResponder;
use crate::tls::testing::{Pki, tls};

struct Fixed(Arc<CertifiedKey>);

impl ChallengeResponder for Fixed {
    fn hello(&self, _: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        Some(self.0.clone())
    }

    fn token(&self, _: &str) -> Option<String> {
        None
    }
}

/// `a.test` has a certificate and is validated with another one.
fn under_validation(pki: &Pki) -> (TlsServer, Arc<CertifiedKey>, impl Sized) {
    let server = crate::tls::testing::server(&tls(vec![pki.pair("a", &["a.test"])], ""));
    let termination = crate::tls::testing::ending(&server);
    let proof = crate::tls::testing::built(&tls(vec![pki.pair("proof", &["a.test"])], ""));
    let proof = proof.of("a.test");
    let answer = termination
        .shelf
        .register_challenge("a.test", Arc::new(Fixed(proof.clone())));
    (termination, proof, answer)
}

fn asking(pki: &Pki, protocols: &[&[u8]]) -> tokio_rustls::TlsConnector {
    let mut config = (**pki.client(BOTH).config()).clone();
    config.alpn_protocols = protocols.iter().map(|protocol| protocol.to_vec()).collect();
    Arc::new(config).into()
}

#[tokio::test]
async fn a_ca_sees_the_proof_and_the_end() {
    let pki = Pki::new();
    let (termination, proof, _answer) = under_validation(&pki);
    let (near, far) = tokio::io::duplex(64 * 1024);
    let client = asking(&pki, &[ACME_TLS]);
    let name = rustls::pki_types::ServerName::try_from("a.test").unwrap();
    let seen = async {
        let mut connected = client.connect(name, far).await.unwrap();
        let connection = connected.get_ref().1;
        assert_eq!(connection.alpn_protocol(), Some(ACME_TLS));
        let shown = connection.peer_certificates().unwrap().to_vec();
        assert_eq!(connected.read(&mut [0]).await.unwrap(), 0);
        shown
    };
    let (entered, shown) = tokio::join!(accept(&termination, near), seen);
    assert!(matches!(entered, Ok(AcceptOutcome::AcmeValidated)));
    assert_eq!(shown, proof.cert);
}

#[tokio::test]
async fn a_client_that_offers_more_is_a_client() {
    let pki = Pki::new();
    let (termination, _, _answer) = under_validation(&pki);
    let (near, far) = tokio::io::duplex(64 * 1024);
    let client = asking(&pki, &[ACME_TLS, b"http/1.1"]);
    let name = rustls::pki_types::ServerName::try_from("a.test").unwrap();
    let (entered, connected) = tokio::join!(accept(&termination, near), client.connect(name, far));
    assert!(matches!(entered, Ok(AcceptOutcome::Client(_))));
    assert_eq!(
        connected.unwrap().get_ref().1.alpn_protocol(),
        Some(&b"http/1.1"[..])
    );
}

#[tokio::test]
async fn no_challenge_no_handshake() {
    let pki = Pki::new();
    let (termination, _, answer) = under_validation(&pki);
    drop(answer);
    let (near, far) = tokio::io::duplex(64 * 1024);
    let name = rustls::pki_types::ServerName::try_from("a.test").unwrap();
    let client = asking(&pki, &[ACME_TLS]);
    let (entered, connected) = tokio::join!(accept(&termination, near), client.connect(name, far));
    assert!(matches!(entered, Err(TlsError::NoChallenge(name)) if &*name == "a.test"));
    assert_eq!(alert(connected), AlertDescription::UnrecognisedName);
}

#[tokio::test(start_paused = true)]
async fn one_that_stalls_is_gone_after_two_seconds() {
    let pki = Pki::new();
    let (termination, _, _answer) = under_validation(&pki);
    let (near, mut far) = tokio::io::duplex(64 * 1024);
    let config = asking(&pki, &[ACME_TLS]).config().clone();
    let name = rustls::pki_types::ServerName::try_from("a.test").unwrap();
    let mut stalling = rustls::ClientConnection::new(config, name).unwrap();
    let mut hello = Vec::new();
    stalling.write_tls(&mut hello).unwrap();
    far.write_all(&hello).await.unwrap();
    let started = Instant::now();
    let entered = accept(&termination, near).await;
    assert!(matches!(entered, Err(TlsError::SlowChallenge)));
    assert_eq!(started.elapsed().as_secs(), 2);
}
