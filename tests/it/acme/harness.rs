//! Tests of the harness: Pebble and the faulty front before it.

use super::client::{account, issue, validate};
use crate::harness::{Answer, Fault, Front, Pebble, PebbleSetup, Wire, web::Failure, within};
use base64::{Engine, prelude::BASE64_URL_SAFE_NO_PAD};
use bytes::Bytes;
use http::{Response, StatusCode};
use instant_acme::ExternalAccountKey;
use std::time::Duration;
use tokio::{net::TcpListener, time::timeout};
use x509_parser::pem::Pem;

/// After this long without an answer, none is expected.
const NO_ANSWER_TIMEOUT: Duration = Duration::from_millis(300);

#[tokio::test]
async fn pebble_issues_through_the_front() {
    let key = [7; 32];
    let pebble = unvalidated(
        Pebble::setup()
            .validity(3600)
            .eab("kid-1", &BASE64_URL_SAFE_NO_PAD.encode(key)),
    )
    .await;
    let front = Front::before(&pebble).await;

    let external = ExternalAccountKey::new("kid-1".into(), &key);
    let account = account(&pebble, front.directory(), Some(&external)).await;
    let certificate = issue(&pebble, &account).await;
    assert_eq!(pebble.orders(), 1, "{}", pebble.log());
    assert_eq!(pebble.count("Added order"), 1);
    pebble.until_log("Issued certificate serial", 1).await;
    let (_, pem) = x509_parser::pem::parse_x509_pem(certificate.as_bytes()).expect("PEM");
    let validity = pem.parse_x509().expect("X.509").validity.clone();
    let seconds = validity.not_after.timestamp() - validity.not_before.timestamp();
    assert!((3599..=3600).contains(&seconds), "{seconds}");

    // With a fault for a path that is never requested, the front forwards requests instead of bytes.
    let passed = front.connections();
    front.set(Fault::Late("/revoke-cert", Answer::new(500, "")));
    issue(&pebble, &account).await;
    assert_eq!((pebble.orders(), front.answered()), (2, 0));
    assert!(front.connections() > passed + 5);
    let root = std::fs::read(pebble.root().await).expect("just written");
    let (_, root): (_, Pem) = x509_parser::pem::parse_x509_pem(&root).expect("PEM");
    assert!(root.parse_x509().expect("X.509").is_ca());
}

#[tokio::test]
async fn pebble_validates_at_the_configured_address_and_port() {
    let ours = TcpListener::bind("127.0.0.98:0").await.expect("loopback");
    let port = ours.local_addr().expect("bound").port();
    let pebble = Pebble::setup().ports(port, 1).start().await;
    pebble.set_ipv4("a.test", "127.0.0.99").await;
    pebble.set_ipv4("a.test", "127.0.0.98").await;

    let account = account(&pebble, pebble.directory(), None).await;
    let path = validate(&account).await;
    let (stream, _) = within("a validation", ours.accept())
        .await
        .expect("a socket");
    let request = Wire::plain(stream).head().await;
    assert_eq!(request.start, format!("GET {path} HTTP/1.1"));
    drop(ours);
    pebble.until_log("set INVALID", 1).await;
}

#[tokio::test]
async fn pebble_can_be_stopped_frozen_and_reconfigured() {
    let mut pebble = unvalidated(Pebble::setup().nonce_reject(30)).await;
    assert_eq!(pebble.count("Configured to reject 30% of good nonces"), 1);
    let root = pebble.root_pem().await;

    pebble.stop().await;
    assert!(
        within("a refusal", pebble.get(&pebble.directory()))
            .await
            .is_err()
    );
    pebble.restart().await;
    assert!(pebble.get(&pebble.directory()).await.is_ok());
    assert_ne!(pebble.root_pem().await, root);

    pebble.freeze();
    assert!(
        timeout(NO_ANSWER_TIMEOUT, pebble.get(&pebble.directory()))
            .await
            .is_err()
    );
    pebble.thaw();
    let answer = within("an answer", pebble.get(&pebble.directory())).await;
    assert_eq!(answer.expect("it lives").status(), StatusCode::OK);

    pebble.set_txt("_acme-challenge.a.test", "one").await;
    pebble
        .until_log(
            "Added DNS-01 TXT challenge for Host \"_acme-challenge.a.test.\"",
            1,
        )
        .await;
    pebble.clear_txt("_acme-challenge.a.test").await;
    pebble
        .until_log(
            "Removed DNS-01 TXT challenge for Host \"_acme-challenge.a.test.\"",
            1,
        )
        .await;
    pebble.set_ipv4("b.test", "127.0.0.99").await;
    pebble.until_log("\"b.test.\" : 127.0.0.99", 1).await;
}

#[tokio::test]
async fn every_fault_of_the_front_takes_effect() {
    let pebble = unvalidated(Pebble::setup()).await;
    let front = Front::before(&pebble).await;
    let get = |path: &'static str| {
        let url = front.directory().replace("/dir", path);
        let pebble = &pebble;
        async move { within("an answer", pebble.get(&url)).await }
    };
    let directory = get("/dir").await.expect("it passes");
    let directory = String::from_utf8_lossy(directory.body()).into_owned();
    assert!(
        directory.contains(&front.directory().replace("/dir", "/order-plz")),
        "{directory}"
    );

    front.set(Fault::Refuse);
    assert!(get("/dir").await.is_err());

    front.set(Fault::Silent);
    let mut request = Box::pin(get("/dir"));
    assert!(timeout(NO_ANSWER_TIMEOUT, &mut request).await.is_err());
    // Changing the fault closes open connections.
    front.set(Fault::Answer(Answer::new(500, "out of order")));
    assert!(request.await.is_err());
    assert_eq!(
        status_and_body(get("/dir").await),
        (500, "out of order".into())
    );

    let limited = Answer::problem(429, "rateLimited", "too many orders").retry_after("7");
    front.set(Fault::Late("/nonce", limited));
    assert_eq!(status_and_body(get("/dir").await), (200, directory.clone()));
    let answer = get("/nonce-plz").await.expect("an answer");
    assert_eq!(answer.headers()["retry-after"], "7");
    assert_eq!(answer.headers()["content-type"], "application/problem+json");
    assert!(answer.headers().contains_key("replay-nonce"));
    let problem: serde_json::Value = serde_json::from_slice(answer.body()).expect("JSON");
    assert_eq!(problem["type"], "urn:ietf:params:acme:error:rateLimited");

    front.set(Fault::Pass);
    assert_eq!(status_and_body(get("/dir").await), (200, directory));
    assert_eq!((front.connections(), front.answered()), (7, 2));
}

/// Starts a Pebble whose HTTP and TLS validation cannot reach Lockgate.
async fn unvalidated(setup: PebbleSetup) -> Pebble {
    setup.ports(1, 1).start().await
}

fn status_and_body(answer: Result<Response<Bytes>, Failure>) -> (u16, String) {
    let answer = answer.expect("an answer");
    let body = String::from_utf8_lossy(answer.body()).into_owned();
    (answer.status().as_u16(), body)
}
