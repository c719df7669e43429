//! Watches certificate files and reloads pairs that another program has renewed.

use std::collections::BTreeSet;
use std::path::PathBuf;
use std::sync::Arc;

use crate::config::Watch;
use crate::observe::Metrics;
use crate::tls::Certificates;

/// Reloads `certificates` whenever the content of their files changes, and publishes the expiry of each name in
/// `metrics`. Returns only if there are no files.
pub async fn watch_files(certificates: Arc<Certificates>, metrics: Arc<Metrics>) {
    let mut published = BTreeSet::new();
    publish_expiries(&certificates, &metrics, &mut published);
    let files = certificates.files();
    if files.is_empty() {
        return;
    }
    let mut watch = Watch::new(files.clone());
    // All files are reloaded once at first, because they may have changed since they were read.
    let mut changed: BTreeSet<PathBuf> = files.iter().cloned().collect();
    loop {
        let reloaded = certificates.clone();
        let read = tokio::task::spawn_blocking(move || reloaded.reload(&changed));
        for change in read.await.unwrap_or_default() {
            change.log();
        }
        publish_expiries(&certificates, &metrics, &mut published);
        let indices = watch.changed().await;
        changed = indices.into_iter().map(|at| files[at].clone()).collect();
    }
}

fn publish_expiries(
    certificates: &Certificates,
    metrics: &Metrics,
    published: &mut BTreeSet<Box<str>>,
) {
    let expiries = certificates.expiries();
    for name in published.iter() {
        // The expiry of ACME certificates is published by `acme`.
        if !expiries.contains_key(name) && !certificates.acme_names().contains(name) {
            metrics.remove_certificate(name);
        }
    }
    for (name, not_after) in &expiries {
        metrics.certificate(name, *not_after);
    }
    *published = expiries.into_keys().collect();
}

#[cfg(test)]
mod tests;
