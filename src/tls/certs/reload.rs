//! Replaces certificates while they are served. A usable certificate stays until a usable replacement exists.

use crate::{
    config::{Diagnostic, Watch},
    observe::metrics::Metrics,
    tls::{
        cert_files,
        certs::{
            Certificates,
            table::{CertSource, LoadedCert},
        },
        x509::date,
    },
};
use std::{
    collections::BTreeSet,
    path::PathBuf,
    sync::{Arc, PoisonError},
};
use tracing::{error, info, warn};

/// A change found by the reload of a pair.
#[derive(Debug, PartialEq, Eq)]
pub enum CertReload {
    /// Another certificate is served from the next TLS handshake on.
    Replaced {
        /// The certificate's file.
        file: PathBuf,
        /// The names of the certificate.
        names: Vec<Box<str>>,
        /// The names of the previous certificate that no certificate covers now.
        lost: Vec<Box<str>>,
        /// The expiry, in seconds since 1970.
        not_after: Option<i64>,
    },
    /// The files are unusable; the previous certificate is still served.
    Failed {
        /// The certificate's file.
        file: PathBuf,
        /// The error in the certificate or its key.
        problems: Vec<Diagnostic>,
        /// The expiry of the served certificate.
        not_after: Option<i64>,
    },
    /// The files are usable again and contain the served certificate.
    Recovered {
        /// The certificate's file.
        file: PathBuf,
    },
    /// No certificate has the name of `tls.default` now; the previous one is still served.
    DefaultLost {
        /// The name in `tls.default`.
        name: Box<str>,
    },
}

// === impl Certificates ===

impl Certificates {
    /// Reloads the pairs of `tls.certificates` that have a file in `changed`, and serves the usable ones. Returns each
    /// change once; an error that was returned is not returned again until it changes.
    pub fn reload(&self, changed: &BTreeSet<PathBuf>) -> Vec<CertReload> {
        let _guard = self
            .reload_lock
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        let before = self.table.load_full();
        let mut changes = Vec::new();
        let mut certs = before.certs.clone();
        let mut replaced = Vec::new();
        for (index, cert) in certs.iter_mut().enumerate() {
            let change = reload_pair(cert, changed);
            if let Some(CertReload::Replaced { .. }) = change {
                replaced.push(index);
            }
            changes.extend(change);
        }
        if changes.is_empty() {
            return changes;
        }
        let mut table = before.with_certs(certs);
        if let Some(name) = &self.default
            && !table.set_default(name)
        {
            table.default_cert = before.default_cert.clone();
            if before.find(name).is_some() {
                changes.push(CertReload::DefaultLost { name: name.clone() });
            }
        }
        for change in &mut changes {
            if let CertReload::Replaced { lost, .. } = change {
                lost.retain(|name| table.find(name).is_none() && !self.acme_names.contains(name));
            }
        }
        for index in replaced {
            table.warn_shadowed_names(&table.certs[index]);
        }
        self.table.store(Arc::new(table));
        changes
    }
}

/// Reloads one pair into `cert`, and returns the change. An unusable pair leaves the certificate as it was.
fn reload_pair(cert: &mut LoadedCert, changed: &BTreeSet<PathBuf>) -> Option<CertReload> {
    let CertSource::File(entry) = &cert.source else {
        return None;
    };
    if !changed.contains(&entry.cert) && !changed.contains(&entry.key) {
        return None;
    }
    let file = entry.cert.clone();
    let mut problems = Vec::new();
    let Some(loaded) = cert_files::read(entry, &mut problems) else {
        if cert.problems == problems {
            return None;
        }
        cert.problems = problems.clone();
        return Some(CertReload::Failed {
            file,
            problems,
            not_after: cert.not_after(),
        });
    };
    let was_broken = !std::mem::take(&mut cert.problems).is_empty();
    if loaded.key.cert == cert.key.cert {
        return was_broken.then_some(CertReload::Recovered { file });
    }
    cert_files::warn_about_cert(entry, &loaded);
    cert.key = loaded.key;
    let lost = std::mem::replace(&mut cert.names, loaded.names);
    Some(CertReload::Replaced {
        file,
        names: cert.names.clone(),
        lost,
        not_after: cert.not_after(),
    })
}

// === impl CertReload ===

impl CertReload {
    /// Logs the change.
    pub fn log(&self) {
        match self {
            CertReload::Replaced {
                file,
                names,
                lost,
                not_after,
            } => {
                let (file, names, not_after) =
                    (file.display(), names.join(", "), format_expiry(not_after));
                info!(%file, %names, %not_after, "a new certificate is served");
                if !lost.is_empty() {
                    let lost = lost.join(", ");
                    warn!(%file, %lost, "the previous certificate had names that no certificate has now");
                }
            }
            CertReload::Failed {
                file,
                problems,
                not_after,
            } => {
                let (file, served_until) = (file.display(), format_expiry(not_after));
                for problem in problems {
                    let reason = &problem.message;
                    let hint = problem.hint.as_deref().unwrap_or_default();
                    error!(%file, %reason, %hint, %served_until, "the new certificate cannot be used; the previous one is still served");
                }
            }
            CertReload::Recovered { file } => {
                info!(file = %file.display(), "the files of this certificate are usable again");
            }
            CertReload::DefaultLost { name } => error!(
                %name,
                "no certificate has the name of tls.default now; the previous one is still served"
            ),
        }
    }
}

fn format_expiry(not_after: &Option<i64>) -> String {
    not_after.map_or_else(|| "unknown".to_owned(), date)
}

// Watches certificate files and reloads pairs that another program has renewed.

/// Reloads `certificates` whenever the content of their files changes, and publishes the expiry of each name in
/// `metrics`. Returns only if there are no files.
pub(crate) async fn watch_files(certificates: Arc<Certificates>, metrics: Arc<Metrics>) {
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
