use std::time::Duration;

use super::*;
use crate::tls::testing::{PATIENCE, Pki, built, tls};

/// Waits until the metrics have, or no longer have, a line about this name.
async fn measured(metrics: &Metrics, name: &str, wanted: bool) {
    let line = format!("not_after_timestamp_seconds{{host=\"{name}\"}} ");
    let seen = async {
        let mut beat = tokio::time::interval(Duration::from_millis(20));
        while metrics.encode().contains(&line) != wanted {
            beat.tick().await;
        }
    };
    let seen = tokio::time::timeout(PATIENCE, seen).await;
    assert!(seen.is_ok(), "{name}: not {wanted}\n{}", metrics.encode());
}

#[tokio::test]
async fn metrics_tell_until_when_each_name_is_served() {
    let pki = Pki::new();
    let certificates = Arc::new(built(&tls(vec![pki.pair("a", &["a.test", "b.test"])], "")));
    let metrics = Arc::new(Metrics::new());
    let script = async {
        measured(&metrics, "a.test", true).await;
        measured(&metrics, "b.test", true).await;
        pki.pair("a", &["a.test", "c.test"]);
        measured(&metrics, "c.test", true).await;
        measured(&metrics, "b.test", false).await;
        measured(&metrics, "a.test", true).await;
    };
    tokio::select! {
        () = watch_files(certificates, metrics.clone()) => panic!("there are files"),
        () = script => {}
    }
}

#[tokio::test]
async fn without_files_there_is_nothing_to_watch() {
    let certificates = Arc::new(built(&tls(vec![], "")));
    let ended = watch_files(certificates, Arc::new(Metrics::new()));
    tokio::time::timeout(PATIENCE, ended).await.unwrap();
}
