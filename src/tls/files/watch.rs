//! Pairs that are renewed while they are served, by whoever writes their files.

use std::collections::BTreeSet;
use std::path::PathBuf;
use std::sync::Arc;

use crate::config::Watch;
use crate::observe::Metrics;
use crate::tls::Certificates;

/// Has `certificates` read its files again whenever their content changes, and `metrics` know until when each name is
/// served. Ends only if there are no files.
pub async fn watch_files(certificates: Arc<Certificates>, metrics: Arc<Metrics>) {
    let mut measured = BTreeSet::new();
    publish_expiries(&certificates, &metrics, &mut measured);
    let files = certificates.files();
    if files.is_empty() {
        return;
    }
    let mut watch = Watch::new(files.clone());
    // All of them once before anything changed: it may have since the start.
    let mut changed: BTreeSet<PathBuf> = files.iter().cloned().collect();
    loop {
        let reader = certificates.clone();
        let read = tokio::task::spawn_blocking(move || reader.reread(&changed));
        for news in read.await.unwrap_or_default() {
            news.log();
        }
        publish_expiries(&certificates, &metrics, &mut measured);
        let places = watch.changed().await;
        changed = places.into_iter().map(|at| files[at].clone()).collect();
    }
}

fn publish_expiries(
    certificates: &Certificates,
    metrics: &Metrics,
    measured: &mut BTreeSet<Box<str>>,
) {
    let expiries = certificates.expiries();
    for name in measured.iter() {
        // What ACME has for it is measured elsewhere.
        if !expiries.contains_key(name) && !certificates.acme_names().contains(name) {
            metrics.remove_certificate(name);
        }
    }
    for (name, not_after) in &expiries {
        metrics.certificate(name, *not_after);
    }
    *measured = expiries.into_keys().collect();
}

#[cfg(test)]
mod tests;
