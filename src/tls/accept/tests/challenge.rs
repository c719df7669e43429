//! TLS handshakes of a CA that validates a name (RFC 8737).

use crate::tls::{
    accept::{
        tests::{BOTH, alert},
        *,
    },
    issued::ChallengeResponder,
    testing::{self, Pki, tls},
};
use rustls::{AlertDescription, server::ClientHello, sign::CertifiedKey};
use std::sync::Arc;
use tokio::{io::AsyncReadExt, time::Instant};

struct FixedResponder(Arc<CertifiedKey>);

impl ChallengeResponder for FixedResponder {
    fn hello(&self, _: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        Some(self.0.clone())
    }

    fn token(&self, _: &str) -> Option<String> {
        None
    }
}

/// `a.test` has a certificate and is validated with another one.
fn server_with_pending_challenge(pki: &Pki) -> (TlsServer, Arc<CertifiedKey>, impl Sized) {
    let server = testing::server(&tls(vec![pki.pair("a", &["a.test"])], ""));
    let tls_server = testing::tls_server(&server);
    let proof = testing::build_certificates(&tls(vec![pki.pair("proof", &["a.test"])], ""));
    let proof = proof.for_name("a.test");
    let guard = tls_server
        .issued
        .register_challenge("a.test", Arc::new(FixedResponder(proof.clone())));
    (tls_server, proof, guard)
}

fn client_offering(pki: &Pki, protocols: &[&[u8]]) -> tokio_rustls::TlsConnector {
    let mut config = (**pki.client(BOTH).config()).clone();
    config.alpn_protocols = protocols.iter().map(|protocol| protocol.to_vec()).collect();
    Arc::new(config).into()
}

#[tokio::test]
async fn ca_receives_the_challenge_certificate_and_the_connection_is_closed() {
    let pki = Pki::new();
    let (tls_server, proof, _guard) = server_with_pending_challenge(&pki);
    let (near, far) = tokio::io::duplex(64 * 1024);
    let client = client_offering(&pki, &[ACME_TLS]);
    let name = rustls::pki_types::ServerName::try_from("a.test").unwrap();
    let seen = async {
        let mut connected = client.connect(name, far).await.unwrap();
        let connection = connected.get_ref().1;
        assert_eq!(connection.alpn_protocol(), Some(ACME_TLS));
        let presented = connection.peer_certificates().unwrap().to_vec();
        assert_eq!(connected.read(&mut [0]).await.unwrap(), 0);
        presented
    };
    let (accepted, presented) = tokio::join!(accept(&tls_server, near), seen);
    assert!(matches!(accepted, Ok(AcceptOutcome::AcmeValidated)));
    assert_eq!(presented, proof.cert);
}

#[tokio::test]
async fn client_that_offers_further_protocols_is_no_validation() {
    let pki = Pki::new();
    let (tls_server, _, _guard) = server_with_pending_challenge(&pki);
    let (near, far) = tokio::io::duplex(64 * 1024);
    let client = client_offering(&pki, &[ACME_TLS, b"http/1.1"]);
    let name = rustls::pki_types::ServerName::try_from("a.test").unwrap();
    let (accepted, connected) = tokio::join!(accept(&tls_server, near), client.connect(name, far));
    assert!(matches!(accepted, Ok(AcceptOutcome::Client(_))));
    assert_eq!(
        connected.unwrap().get_ref().1.alpn_protocol(),
        Some(&b"http/1.1"[..])
    );
}

#[tokio::test]
async fn validation_without_a_pending_challenge_gets_an_alert() {
    let pki = Pki::new();
    let (tls_server, _, guard) = server_with_pending_challenge(&pki);
    drop(guard);
    let (near, far) = tokio::io::duplex(64 * 1024);
    let name = rustls::pki_types::ServerName::try_from("a.test").unwrap();
    let client = client_offering(&pki, &[ACME_TLS]);
    let (accepted, connected) = tokio::join!(accept(&tls_server, near), client.connect(name, far));
    assert!(matches!(accepted, Err(TlsError::NoChallenge(name)) if &*name == "a.test"));
    assert_eq!(alert(connected), AlertDescription::UnrecognisedName);
}

#[tokio::test(start_paused = true)]
async fn stalled_validation_ends_after_two_seconds() {
    let pki = Pki::new();
    let (tls_server, _, _guard) = server_with_pending_challenge(&pki);
    let (near, mut far) = tokio::io::duplex(64 * 1024);
    let config = client_offering(&pki, &[ACME_TLS]).config().clone();
    let name = rustls::pki_types::ServerName::try_from("a.test").unwrap();
    let mut stalling = rustls::ClientConnection::new(config, name).unwrap();
    let mut hello = Vec::new();
    stalling.write_tls(&mut hello).unwrap();
    far.write_all(&hello).await.unwrap();
    let started = Instant::now();
    let accepted = accept(&tls_server, near).await;
    assert!(matches!(accepted, Err(TlsError::SlowChallenge)));
    assert_eq!(started.elapsed().as_secs(), 2);
}
