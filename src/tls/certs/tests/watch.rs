use crate::tls::{
    certs::*,
    testing::{Pki, TEST_TIMEOUT, build_certificates, tls},
};
use std::time::Duration;

/// Waits until the metrics have, or no longer have, a line about this name.
async fn wait_for_expiry(metrics: &Metrics, name: &str, expected: bool) {
    let line = format!("not_after_timestamp_seconds{{host=\"{name}\"}} ");
    let awaited = async {
        let mut poll = tokio::time::interval(Duration::from_millis(20));
        while metrics.encode().contains(&line) != expected {
            poll.tick().await;
        }
    };
    let awaited = tokio::time::timeout(TEST_TIMEOUT, awaited).await;
    assert!(
        awaited.is_ok(),
        "{name}: not {expected}\n{}",
        metrics.encode()
    );
}

#[tokio::test]
async fn metrics_have_the_expiry_of_each_served_name() {
    let pki = Pki::new();
    let certificates = Arc::new(build_certificates(&tls(
        vec![pki.pair("a", &["a.test", "b.test"])],
        "",
    )));
    let metrics = Arc::new(Metrics::new());
    let script = async {
        wait_for_expiry(&metrics, "a.test", true).await;
        wait_for_expiry(&metrics, "b.test", true).await;
        pki.pair("a", &["a.test", "c.test"]);
        wait_for_expiry(&metrics, "c.test", true).await;
        wait_for_expiry(&metrics, "b.test", false).await;
        wait_for_expiry(&metrics, "a.test", true).await;
    };
    tokio::select! {
        () = watch_files(certificates, metrics.clone()) => panic!("there are files"),
        () = script => {}
    }
}

#[tokio::test]
async fn watch_without_files_returns() {
    let certificates = Arc::new(build_certificates(&tls(vec![], "")));
    let ended = watch_files(certificates, Arc::new(Metrics::new()));
    tokio::time::timeout(TEST_TIMEOUT, ended).await.unwrap();
}
